//! `parlor rpc`, as a program that talks to it sees it.

use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};

use serde_json::{Value, json};

use super::stage::{Stage, end, json, parlor};

/// A `parlor rpc` on somebody's profile.
pub(crate) struct Rpc {
    child: Child,
    input: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Rpc {
    pub(crate) fn start(stage: &Stage, home: &str) -> Self {
        let mut command = parlor(&stage.path(home));
        command.arg("rpc");
        Self::run(command)
    }

    pub(crate) fn run(mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let input = child.stdin.take();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, input, lines }
    }

    pub(crate) fn write(&mut self, lines: &str) {
        self.input.as_mut().unwrap().write_all(lines.as_bytes()).unwrap();
    }

    pub(crate) fn next(&mut self) -> Value {
        json(&self.lines.next().unwrap().unwrap())
    }

    /// The next line that `is_it`; others are passed over.
    pub(crate) fn find(&mut self, is_it: impl Fn(&Value) -> bool) -> Value {
        loop {
            let line = self.next();
            if is_it(&line) {
                return line;
            }
        }
    }

    pub(crate) fn notification(&mut self, method: &str) -> Value {
        self.find(|line| line["method"] == method)["params"].take()
    }

    /// Asks, and waits for the answer; notifications before it are passed over.
    pub(crate) fn ask(&mut self, method: &str, params: &Value) -> Value {
        self.write(&request(1, method, params));
        self.find(|line| line["id"] == 1)
    }

    pub(crate) fn text(&mut self) -> String {
        self.notification("message")["text"].as_str().unwrap().to_owned()
    }

    /// Sends a text to somebody, and waits until it is delivered.
    pub(crate) fn delivers(&mut self, to: &str, text: &str) {
        let params = json!({"contact": to, "text": text, "wait": "delivered", "timeout": 60});
        let answer = self.ask("send", &params);
        assert_eq!(answer["result"]["state"], "delivered", "{answer}");
    }

    /// The texts of the history with somebody.
    pub(crate) fn history(&mut self, with: &str) -> Vec<String> {
        let answer = self.ask("history", &json!({"contact": with, "limit": 100_000}));
        let text = |message: &Value| message["text"].as_str().unwrap().to_owned();
        answer["result"].as_array().unwrap().iter().map(text).collect()
    }

    /// `kill -9`.
    pub(crate) fn kill(mut self) {
        drop(self.input.take());
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Closes the input. Gives what was told after that.
    pub(crate) fn finish(mut self) -> (Vec<Value>, ExitStatus) {
        drop(self.input.take());
        let rest = self.lines.by_ref().map(|line| json(&line.unwrap())).collect();
        (rest, self.child.wait().unwrap())
    }
}

impl Drop for Rpc {
    fn drop(&mut self) {
        if self.input.is_some() {
            end(&mut self.child);
        }
    }
}

pub(crate) fn request(id: u32, method: &str, params: &Value) -> String {
    let line = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
    format!("{line}\n")
}

pub(crate) fn friends() -> Stage {
    let stage = Stage::open();
    stage.register("alice");
    stage.register("bob");
    stage.befriend("alice", "bob");
    stage
}

#[test]
fn a_program_sends_is_told_and_reads_history() {
    let stage = friends();
    let (mut alice, mut bob) = (Rpc::start(&stage, "alice"), Rpc::start(&stage, "bob"));
    assert_eq!(bob.next(), json!({"jsonrpc": "2.0", "method": "ready", "params": {}}));

    let answer = alice.ask("send", &json!({"contact": "bob", "text": "one"}));
    let id = answer["result"]["id"].clone();
    assert_eq!(answer["result"], json!({"id": id, "state": "queued"}));
    let delivered =
        alice.find(|line| line["method"] == "receipt" && line["params"]["state"] == "delivered");
    assert_eq!(delivered["params"], json!({"id": id, "state": "delivered"}));
    let message = bob.notification("message");
    assert_eq!((&message["id"], &message["text"]), (&id, &"one".into()));
    assert_eq!((&message["from"], &message["carrier"]), (&"alice".into(), &"direct".into()));

    let waits = json!({"contact": "alice", "text": "two", "wait": "delivered"});
    let answer = bob.ask("send", &waits);
    let result = &answer["result"];
    assert_eq!((&result["state"], &result["carrier"]), (&"delivered".into(), &"direct".into()));
    assert!(result["ms"].is_u64(), "{answer}");

    let history = bob.ask("history", &json!({"contact": "alice"}));
    let texts: Vec<_> = history["result"].as_array().unwrap().iter().map(|m| &m["text"]).collect();
    assert_eq!(texts, ["one", "two"]);
    let found = bob.ask("history", &json!({"contact": "alice", "search": "two", "limit": 1}));
    let printed = json(&stage.run("bob", &["history", "alice", "--json", "--limit", "1"]).out);
    assert_eq!(found["result"], json!([printed]));
}

#[test]
fn what_is_no_request_is_answered_and_changes_nothing() {
    let stage = friends();
    let mut alice = Rpc::start(&stage, "alice");
    let mut code = |line: &str| {
        alice.write(&format!("{line}\n"));
        alice.find(|line| line.get("error").is_some())["error"].take()
    };
    assert_eq!(code("hello")["code"], -32700);
    assert_eq!(code("[]")["code"], -32600);
    assert_eq!(code(&request(1, "sing", &json!({})))["code"], -32601);
    assert_eq!(code(&request(1, "send", &json!({"contact": "bob"})))["code"], -32602);
    let refused = code(&request(1, "send", &json!({"contact": "carol", "text": "hi"})));
    assert_eq!(
        (&refused["code"], &refused["data"]["code"]),
        (&(-32000).into(), &"unknown_contact".into())
    );
    let refused = code(&request(1, "history", &json!({"contact": "carol"})));
    assert_eq!(refused["data"]["code"], "unknown_contact");
    let long = "x".repeat(64 * 1024 + 1);
    let refused = code(&request(1, "send", &json!({"contact": "bob", "text": long})));
    assert_eq!(refused["data"]["code"], "text");
    let most = alice.ask("send", &json!({"contact": "bob", "text": "\u{1}".repeat(64 * 1024)}));
    assert_eq!(most["result"]["state"], "queued");
    assert!(alice.finish().1.success());
}

#[test]
fn a_burst_is_taken_in_order_and_at_the_end_of_input_all_is_answered() {
    const BURST: u32 = 3000;
    let stage = friends();
    let mut alice = Rpc::start(&stage, "alice");
    let text = |number| json!({"contact": "bob", "text": format!("number {number}")});
    let burst: String = (0..BURST).map(|number| request(number, "send", &text(number))).collect();
    let last = json!({"contact": "bob", "text": "the last", "wait": "delivered", "timeout": 0.2});
    alice.write(&(burst + &request(BURST, "send", &last)));
    let (told, status) = alice.finish();
    assert!(status.success());
    let answers: Vec<_> = told.iter().filter(|line| line.get("id").is_some()).collect();
    let ids: Vec<_> = answers.iter().map(|answer| answer["id"].as_u64().unwrap()).collect();
    assert_eq!(ids, (0..=BURST.into()).collect::<Vec<_>>());
    let (last, others) = answers.split_last().unwrap();
    assert!(others.iter().all(|answer| answer["result"]["state"] == "queued"));
    assert_eq!(
        (&last["result"]["state"], &last["result"]["carrier"]),
        (&"queued".into(), &Value::Null)
    );

    let mut alice =
        parlor(&stage.path("alice")).arg("listen").stdout(Stdio::null()).spawn().unwrap();
    let mut bob = Rpc::start(&stage, "bob");
    for number in 0..BURST {
        assert_eq!(bob.text(), format!("number {number}"));
    }
    assert_eq!(bob.text(), "the last");
    end(&mut alice);
}

#[test]
fn messages_that_a_program_was_told_are_not_told_again() {
    let stage = friends();
    let mut alice = Rpc::start(&stage, "alice");
    for time in 0..5 {
        let text = format!("once {time}");
        let mut bob = Rpc::start(&stage, "bob");
        alice.delivers("bob", &text);
        assert_eq!(bob.text(), text);
        assert!(bob.finish().1.success());
    }
    let mut bob = stage.listen("bob");
    alice.delivers("bob", "then");
    assert_eq!(bob.next_message()["text"], "then");
}
