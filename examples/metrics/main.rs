//! A server's numbers, for Prometheus: `cargo run --example metrics --features metrics -- DIR [ADDRESS]`, then
//! `curl http://127.0.0.1:9184/metrics`.
//!
//! The store counts by itself. Before each scrape a snapshot of it is given to the `metrics` facade, where the server's own
//! numbers are too, and whatever recorder the server has writes them all out.

mod text;

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use chanlog::{Batch, Draft, Store};
use text::Text;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let dir = args.next().ok_or("usage: metrics DIR [ADDRESS]")?;
    let listener = TcpListener::bind(args.next().as_deref().unwrap_or("127.0.0.1:9184"))?;
    let text = Text::default();
    metrics::set_global_recorder(text.clone())?;
    let store = Store::open(dir)?;
    let busy = store.clone();
    thread::spawn(move || chat(&busy));
    println!("http://{}/metrics", listener.local_addr()?);
    for stream in listener.incoming() {
        // A scrape that breaks off is its own affair.
        let _ = stream.and_then(|stream| answer(stream, &store, &text));
    }
    Ok(())
}

/// Something to count.
fn chat(store: &Store) {
    for n in 0.. {
        let draft = Draft::new("alice", n, format!("message {n}"));
        if let Err(error) = store.commit(Batch::new().append("general", draft)) {
            return eprintln!("{error}");
        }
        metrics::counter!("server_messages_total").increment(1);
        thread::sleep(Duration::from_millis(50));
    }
}

/// Answers one request, whatever it asks for.
fn answer(mut stream: TcpStream, store: &Store, text: &Text) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let request = BufReader::new(stream.try_clone()?);
    request.lines().take_while(|line| line.as_ref().is_ok_and(|line| !line.is_empty())).for_each(drop);
    store.stat().map_err(std::io::Error::other)?.publish("messages");
    let body = text.render();
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}
