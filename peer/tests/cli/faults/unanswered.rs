//! A rendezvous that dies after storing and before answering.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::{Value, json};

use crate::rpc::{Rpc, friends};
use crate::stage::Stage;

/// A way to a rendezvous on which its answers can be lost.
struct Way {
    address: SocketAddr,
    loses_answers: Arc<AtomicBool>,
}

impl Way {
    fn to(server: &str) -> Self {
        let bind = || Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
        let (front, back) = (bind(), bind());
        back.connect(server).unwrap();
        let address = front.local_addr().unwrap();
        let loses_answers = Arc::new(AtomicBool::new(false));
        let client = Arc::new(Mutex::new(None));
        let (front_out, back_out) = (front.clone(), back.clone());
        let (loses, asks) = (loses_answers.clone(), client.clone());
        // Both end with the process. What cannot be passed on is lost, as packets may be.
        thread::spawn(move || {
            let mut packet = vec![0; 65536];
            loop {
                if let Ok((length, from)) = front.recv_from(&mut packet) {
                    *asks.lock().unwrap() = Some(from);
                    let _ = back_out.send(&packet[..length]);
                }
            }
        });
        thread::spawn(move || {
            let mut packet = vec![0; 65536];
            loop {
                if let Ok(length) = back.recv(&mut packet)
                    && !loses.load(Ordering::SeqCst)
                    && let Some(client) = *client.lock().unwrap()
                {
                    let _ = front_out.send_to(&packet[..length], client);
                }
            }
        });
        Self { address, loses_answers }
    }

    fn loses_answers(&self, loses: bool) {
        self.loses_answers.store(loses, Ordering::SeqCst);
    }
}

/// Carol, who goes that way, and bob, who does not.
fn carol_and_bob() -> (Stage, Way) {
    let stage = friends();
    let way = Way::to(&stage.listen);
    let link = stage.link.replace(&stage.listen, &way.address.to_string());
    let ended = stage.account("carol", "register", "carol", &link, "password");
    assert_eq!(ended.code, 0, "{ended:?}");
    stage.befriend("carol", "bob");
    assert_eq!(stage.run("carol", &["contact", "list"]).code, 0);
    (stage, way)
}

#[test]
fn what_was_stored_and_not_answered_comes_once() {
    let (mut stage, way) = carol_and_bob();
    let (mut carol, mut bob) = (Rpc::start(&stage, "carol"), Rpc::start(&stage, "bob"));
    carol.delivers("bob", "hello");
    assert_eq!(bob.text(), "hello");
    assert!(bob.finish().1.success());
    let is_away = |line: &Value| line["method"] == "presence" && line["params"]["online"] == false;
    carol.find(is_away);
    way.loses_answers(true);
    let sent = carol.ask("send", &json!({"contact": "bob", "text": "stored"}));
    assert_eq!(sent["result"]["state"], "queued");

    // Bob has it, so it was stored; carol does not know that.
    let mut bob = Rpc::start(&stage, "bob");
    let message = bob.notification("message");
    assert_eq!((&message["text"], &message["carrier"]), (&"stored".into(), &"mailbox".into()));
    stage.kill_rendezvous();
    way.loses_answers(false);
    stage.start_rendezvous();

    let is_delivered =
        |line: &Value| line["params"]["state"] == "delivered" && line["method"] == "receipt";
    assert_eq!(carol.find(is_delivered)["params"]["id"], sent["result"]["id"]);
    carol.delivers("bob", "and on");
    bob.delivers("carol", "and back");
    assert_eq!(bob.history("carol"), ["hello", "stored", "and on", "and back"]);
    assert_eq!(carol.history("bob"), ["hello", "stored", "and on", "and back"]);
}
