//! What a story needs: the same words on the simulated world and on real sockets.

/// Where a story plays. People are known by their names; each has one device.
pub trait Stage {
    /// `name` gets an account, with the password `password of NAME`, and a running peer.
    fn register(&mut self, name: &str);

    /// `one` asks, `other` accepts; both know it in the end.
    fn befriend(&mut self, one: &str, other: &str);

    /// `from` sends a text to `to`; it need not arrive now.
    fn says(&mut self, from: &str, to: &str, text: &str);

    /// Waits until `who` has been told as many texts, and checks that they are these, in order:
    /// all texts since the story began, of everybody.
    fn sees(&mut self, who: &str, texts: &[&str]);

    /// Waits until everything that `who` sent has been delivered.
    fn all_delivered(&mut self, who: &str);

    /// Stops a peer in order; it keeps what it saved.
    fn stop(&mut self, who: &str);

    /// Starts a peer that was stopped.
    fn start(&mut self, who: &str);

    /// Waits until `who` is at the rendezvous.
    fn is_online(&mut self, who: &str);

    /// Waits until `who` has noticed that the rendezvous is away.
    fn is_offline(&mut self, who: &str);

    /// Stops the rendezvous in order.
    fn stop_server(&mut self);

    /// Starts the rendezvous again.
    fn start_server(&mut self);
}

/// The password that a story's people have.
pub fn password_of(name: &str) -> String {
    format!("password of {name}")
}
