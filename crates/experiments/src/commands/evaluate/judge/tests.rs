use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};

use super::*;

/// One request as the endpoint saw it.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) head: String,
    pub(crate) body: Value,
}

/// An endpoint that gives these answers, one after the other: status, headers, body.
pub(crate) fn endpoint(answers: Vec<(u16, &'static str, String)>) -> (String, Receiver<Seen>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let (sender, seen) = channel();
    thread::spawn(move || {
        for (status, headers, body) in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                assert!(reader.read_line(&mut head).unwrap() > 0, "the request was cut off");
            }
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
            });
            let mut bytes = vec![0; length.unwrap_or(0)];
            reader.read_exact(&mut bytes).unwrap();
            let body_seen = serde_json::from_slice(&bytes).unwrap();
            let answer = format!(
                "HTTP/1.1 {status} x\r\nconnection: close\r\n{headers}content-length: {}\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(answer.as_bytes()).unwrap();
            let _ = sender.send(Seen { head, body: body_seen });
        }
    });
    (url, seen)
}

/// What a judge that says `text` sends.
pub(crate) fn says(text: &str) -> (u16, &'static str, String) {
    let body = json!({ "choices": [{ "message": { "role": "assistant", "content": text } }] });
    (200, "content-type: application/json\r\n", body.to_string())
}

fn quick(url: &str) -> Judge {
    Judge { wait: Duration::from_millis(1), tries: 3, key: None, ..Judge::new(url, "j").unwrap() }
}

fn request() -> Request {
    Request { system: "s".to_owned(), user: "u".to_owned() }
}

#[test]
fn a_judge_is_asked_in_openais_protocol() {
    let (url, seen) = endpoint(vec![says("Rating: [[7]]")]);
    let judge = Judge { key: Some("secret".to_owned()), ..quick(&url) };
    assert_eq!(judge.ask(&request()).unwrap(), "Rating: [[7]]");
    let Seen { head, body } = seen.recv().unwrap();
    assert!(head.starts_with("POST /v1/chat/completions HTTP/1.1"), "{head}");
    assert!(head.to_lowercase().contains("authorization: bearer secret"), "{head}");
    assert_eq!(body["model"], "j");
    assert_eq!(body["temperature"], 0);
    assert_eq!(body["messages"][0], json!({"role": "system", "content": "s"}));
    assert_eq!(body["messages"][1], json!({"role": "user", "content": "u"}));
}

#[test]
fn what_passes_is_tried_again() {
    let busy = |status| (status, "retry-after: 0\r\n", "busy".to_owned());
    let (url, seen) = endpoint(vec![busy(429), busy(503), says("[[1]]")]);
    assert_eq!(quick(&url).ask(&request()).unwrap(), "[[1]]");
    assert_eq!(seen.iter().count(), 3);
    let (url, seen) = endpoint(vec![busy(500), busy(500), busy(500)]);
    let error = quick(&url).ask(&request()).unwrap_err().to_string();
    assert_eq!(
        error,
        format!("the judge at `{url}/chat/completions`, tried 3 times: status 500: busy")
    );
    assert_eq!(seen.iter().count(), 3);
}

#[test]
fn what_does_not_pass_is_told_without_the_key() {
    let refused = (401, "", "no such key:\n secret".to_owned());
    let (url, seen) = endpoint(vec![refused]);
    let judge = Judge { key: Some("secret".to_owned()), ..quick(&url) };
    let error = judge.ask(&request()).unwrap_err().to_string();
    assert_eq!(error, format!("the judge at `{url}/chat/completions`: status 401: no such key: …"));
    assert_eq!(seen.iter().count(), 1);
    let (url, _seen) = endpoint(vec![(200, "", "{}".to_owned())]);
    let error = quick(&url).ask(&request()).unwrap_err().to_string();
    assert!(error.ends_with("its answer has no choices[0].message.content: {}"), "{error}");
    // Nobody there.
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = quick(&format!("http://{free}")).ask(&request()).unwrap_err().to_string();
    assert!(error.contains("tried 3 times"), "{error}");
}

#[test]
fn urls_are_checked() {
    let check = |url: &str, expected: &str| {
        assert_eq!(Judge::new(url, "j").unwrap_err().to_string(), expected);
    };
    check("localhost:1", "--judge must begin with http:// or https://, got `localhost:1`");
    check("http://", "--judge names no host: `http://`");
    check(
        "http://me:pass@host/v1",
        "--judge must have no user or password in it; a key goes into FORERUN_JUDGE_KEY",
    );
    let whole = Judge::new("http://h/v1/chat/completions/", "j").unwrap();
    assert_eq!(whole.url, "http://h/v1/chat/completions");
}

#[test]
fn grades_are_found_in_a_judges_words() {
    let check = |text: &str, expected: Option<f64>| assert_eq!(rating(text), expected, "{text}");
    check("Good. Rating: [[7]]", Some(7.0));
    check("[[7.5]] and later [[3]]", Some(7.5));
    check("Rating: [8]", Some(8.0));
    check("as in [1], I say [[9]]", Some(9.0));
    check("[[rating]] is [[4]]", Some(4.0));
    for none in [
        "", "7", "[[11]]", "[[0]]", "[[-3]]", "[[a]]", "[[", "[[5", "[[1e0]]", "[[5/10]]", "[[.5]]",
    ] {
        check(none, None);
    }
}

#[test]
fn prompts_are_filled_once() {
    let turn = |question, answer| Exchange { question, answer, reference: None };
    let first = prompt(&[turn("Q{answer}", "A {question}")]).unwrap();
    assert_eq!(first.system, "You are a helpful assistant.");
    assert!(first.user.contains("[Question]\nQ{answer}\n"), "{}", first.user);
    assert!(first.user.contains("Assistant's Answer]\nA {question}\n["), "{}", first.user);
    let both = prompt(&[turn("Q1", "A1"), turn("Q2", "A2")]).unwrap();
    assert!(both.system.contains("second user question"));
    let order = ["Q1", "A1", "Q2", "A2"].map(|part| both.user.find(part).unwrap());
    assert!(order.is_sorted(), "{}", both.user);
    let known = Exchange { question: "Q1", answer: "A1", reference: Some("R1") };
    let math = prompt(&[known]).unwrap();
    assert!(math.user.contains("[The Start of Reference Answer]\nR1\n"), "{}", math.user);
    for request in [first, both, math] {
        assert!(!request.user.contains("{ref_answer") && !request.user.contains("{question_"));
    }
}

#[test]
fn what_waiting_cannot_mend_is_told_apart() {
    use ureq::Error;
    let io = |kind: ErrorKind, text: &str| Error::Io(std::io::Error::new(kind, text));
    let lookup =
        |why: &str| io(ErrorKind::Other, &format!("failed to lookup address information: {why}"));
    for (error, expected) in [
        (Error::HostNotFound, true),
        (lookup("Name or service not known"), true),
        (lookup("Temporary failure in name resolution"), false),
        (lookup("Try again"), false),
        (io(ErrorKind::InvalidData, "invalid peer certificate: UnknownIssuer"), true),
        (Error::Tls("no certificate"), true),
        (io(ErrorKind::ConnectionRefused, "refused"), false),
        (io(ErrorKind::ConnectionReset, "reset"), false),
        (Error::ConnectionFailed, false),
    ] {
        assert_eq!(is_wrong(&error), expected, "{error}");
    }
}

#[test]
fn an_endpoint_that_speaks_no_tls_is_asked_once() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 512]);
            let _ = stream.write_all(b"HTTP/1.1 400 what?\r\n\r\n"); // no handshake
        }
    });
    let error = quick(&url).ask(&request()).unwrap_err().to_string();
    assert!(!error.contains("tried"), "{error}");
    // One that has answered before is asked again.
    let judge = quick(&url);
    judge.heard.set(true);
    let error = judge.ask(&request()).unwrap_err().to_string();
    assert!(error.contains("tried 3 times"), "{error}");
}
