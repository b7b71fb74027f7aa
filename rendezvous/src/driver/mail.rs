//! The way of mails out of here: by SMTP to the server of the configuration, a few at a time.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use lettre::message::Mailbox;
use lettre::message::header::{ContentType, Header, HeaderName, HeaderValue};
use lettre::transport::smtp;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};
use parlor_common::visible::Visible;
use thiserror::Error;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;

use super::turns::Input;
use crate::config::{Email, Encryption, SmtpServer};
use crate::email::{Mail, NotSent, SUBJECT};
use crate::server::MailId;

/// A mail that has not left within this time does not leave.
const MAIL_TIME: Duration = Duration::from_secs(20);

/// Mails that are on their way or wait for that; beyond them none is taken.
const MAX_MAILS: usize = 256;

/// Connections to the SMTP server at a time.
const MAX_CONNECTIONS: usize = 4;

/// Sends mails.
pub(super) struct Mailer {
    post: Arc<Post>,
    places: Arc<Semaphore>,
    inputs: mpsc::Sender<Input>,
}

/// What one mail needs to leave.
struct Post {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    connections: Semaphore,
}

/// No mail can be sent with the configuration.
#[derive(Debug, Error)]
#[error("mail cannot be sent: {0}")]
pub struct MailerError(#[from] smtp::Error);

/// Why a mail did not leave. The text is for the log.
#[derive(Debug, Error)]
enum SendError {
    #[error("the address is none for the library")]
    Address(#[from] lettre::address::AddressError),
    #[error("too many mails are on their way")]
    Full,
    #[error("the mail cannot be written: {0}")]
    Message(#[from] lettre::error::Error),
    #[error("the SMTP server does not take it: {0}")]
    Smtp(#[from] smtp::Error),
    #[error("the SMTP server took too long")]
    TooLate,
}

impl Mailer {
    /// What is sent is told to the turns by `inputs`.
    pub(super) fn new(email: &Email, inputs: mpsc::Sender<Input>) -> Result<Self, MailerError> {
        let (transport, from) = (transport(&email.smtp)?, email.from.0.clone());
        let connections = Semaphore::new(MAX_CONNECTIONS);
        let post = Arc::new(Post { transport, from, connections });
        Ok(Self { post, places: Arc::new(Semaphore::new(MAX_MAILS)), inputs })
    }

    /// Sends a mail, beside everything else.
    pub(super) fn send(&self, id: MailId, mail: Mail) {
        let place = Arc::clone(&self.places).try_acquire_owned();
        let (post, inputs) = (Arc::clone(&self.post), self.inputs.clone());
        tokio::spawn(async move {
            let sent = match &place {
                Ok(_) => post.send_in_time(mail).await,
                Err(_) => Err(SendError::Full),
            };
            let result = sent.map_err(|error| {
                // Some of it is the SMTP server's.
                let error = error.to_string();
                tracing::warn!(error = %Visible(&error), "a mail did not leave");
                NotSent
            });
            // A server that has stopped asks no more.
            let _ = inputs.send(Input::Mailed { id, result }).await;
        });
    }
}

impl Post {
    async fn send_in_time(&self, mail: Mail) -> Result<(), SendError> {
        timeout(MAIL_TIME, self.send(mail)).await.unwrap_or(Err(SendError::TooLate))
    }

    async fn send(&self, mail: Mail) -> Result<(), SendError> {
        let message = self.message(&mail)?;
        // It is never closed; without a permit the mail would leave all the same.
        let _connection = self.connections.acquire().await;
        self.transport.send(message).await?;
        Ok(())
    }

    /// A mail with one part of plain text.
    fn message(&self, mail: &Mail) -> Result<Message, SendError> {
        let to = Mailbox::new(None, mail.to.to_string().parse()?);
        let headers = Message::builder().from(self.from.clone()).to(to).subject(SUBJECT);
        let headers =
            headers.message_id(None).header(AutoSubmitted).header(ContentType::TEXT_PLAIN);
        Ok(headers.body(mail.body.as_str().to_owned())?)
    }
}

fn transport(server: &SmtpServer) -> Result<AsyncSmtpTransport<Tokio1Executor>, smtp::Error> {
    let tls = || TlsParameters::new(server.host.clone());
    let tls = match server.encryption {
        Encryption::Tls => Tls::Wrapper(tls()?),
        Encryption::StartTls => Tls::Required(tls()?),
        Encryption::Plain => Tls::None,
    };
    let builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(server.host.clone());
    let builder = builder.port(server.port).tls(tls).timeout(Some(MAIL_TIME));
    let builder = match &server.login {
        Some(login) => {
            let password = login.password.as_str().to_owned();
            builder.credentials(Credentials::new(login.user.clone(), password))
        }
        None => builder,
    };
    Ok(builder.build())
}

/// Says that no person wrote the mail, so that no machine answers it (RFC 3834 §5).
#[derive(Clone)]
struct AutoSubmitted;

impl Header for AutoSubmitted {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("Auto-Submitted")
    }

    fn parse(_: &str) -> Result<Self, Box<dyn Error + Send + Sync>> {
        Ok(Self)
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), "auto-generated".to_owned())
    }
}
