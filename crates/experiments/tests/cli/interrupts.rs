//! Ctrl-C, and readers that go away, while a command works with a model.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::commands::{lines, place, write};
use crate::program::signal;

#[test]
fn ctrl_c_ends_a_text_with_what_there_is() {
    let place = place();
    // A text without an end: every token that ends one is far from likely.
    let arguments =
        ["generate", "tiny", "--prompt", "a", "--max-new-tokens", "200000", "--log-probs"];
    let mut child =
        place.command(&arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    for _ in 0..3 {
        line.clear();
        assert!(out.read_line(&mut line).unwrap() > 0, "it ended by itself");
    }
    signal(&child, "INT");
    let mut rest = String::new();
    out.read_to_string(&mut rest).unwrap();
    let status = child.wait().unwrap();
    assert_eq!(status.code(), Some(130));
    assert_eq!(lines(&rest).pop().unwrap()["end"], "interrupted");
}

#[test]
fn a_reader_that_goes_away_ends_it_quietly() {
    let place = place();
    let arguments =
        ["generate", "tiny", "--prompt", "a", "--max-new-tokens", "200000", "--log-probs"];
    let mut child =
        place.command(&arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap(); // and is dropped
    let began = Instant::now();
    let output = child.wait_with_output().unwrap();
    assert!(began.elapsed() < Duration::from_secs(60));
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "note: with a prompt of 1 token and 200000 new ones the text may outgrow the 512 tokens that the model was made for\n"
    );
}

#[test]
fn ctrl_c_while_quantising_leaves_nothing() {
    let place = place();
    write(&place, "text.txt", &"the cat sat on the mat and looked at the moon. ".repeat(8000));
    let arguments = [
        "quantize",
        "tiny",
        "--out",
        "new",
        "--format",
        "int4",
        "--group",
        "64",
        "--text",
        "text.txt",
        "--text-tokens",
        "200000",
    ];
    let mut child =
        place.command(&arguments).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.starts_with("calibrating on") {
        line.clear();
        assert!(said.read_line(&mut line).unwrap() > 0, "it ended by itself");
    }
    signal(&child, "INT");
    let mut rest = String::new();
    said.read_to_string(&mut rest).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{rest}");
    assert!(rest.contains("stopped; nothing was written"), "{rest}");
    assert!(!place.path().join("new").exists());
}

/// A judge that is always busy; says when it was asked first.
fn busy_judge() -> (String, std::sync::mpsc::Receiver<()>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let (asked, seen) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = BufReader::new(stream.try_clone().unwrap());
            let (mut line, mut length) = (String::new(), 0);
            while line != "\r\n" {
                line.clear();
                head.read_line(&mut line).unwrap();
                let low = line.to_lowercase();
                if let Some(n) = low.strip_prefix("content-length:") {
                    length = n.trim().parse().unwrap();
                }
            }
            head.read_exact(&mut vec![0; length]).unwrap();
            let answer = "HTTP/1.1 503 x\r\nretry-after: 60\r\nconnection: close\r\ncontent-length: 4\r\n\r\nbusy";
            stream.write_all(answer.as_bytes()).unwrap();
            let _ = asked.send(());
        }
    });
    (url, seen)
}

#[test]
fn ctrl_c_while_a_judge_is_busy_is_no_error() {
    let place = place();
    let (url, asked) = busy_judge();
    let arguments = [
        "evaluate",
        "mt-bench",
        "tiny",
        "--out",
        "bench",
        "--limit",
        "1",
        "--max-new-tokens",
        "2",
        "--judge",
        &url,
        "--judge-model",
        "j",
    ];
    let child =
        place.command(&arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    asked.recv().unwrap();
    let began = Instant::now();
    signal(&child, "INT");
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(130), "{said}");
    assert!(began.elapsed() < Duration::from_secs(30) && asked.try_recv().is_err(), "{said}");
    assert!(said.contains("the judge: status 503: busy; trying again"), "{said}");
    // Some questions are longer than the 512 tokens that it was made for; that is said once.
    assert_eq!(said.matches("may outgrow the 512 tokens").count(), 1, "{said}");
    assert!(place.path().join("bench/answers.jsonl").is_file());
}
