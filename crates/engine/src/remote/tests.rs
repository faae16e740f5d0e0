//! A client whose clock stands still, and whose key nobody sees.

use super::{
    Address, Kind, Options,
    client::{Client, Failure, Reply, Request, Secret},
    clock::{Clock, Still},
    key,
};
use embral_testkit::server::{self, Server};
use std::{sync::Arc, time::Duration};

fn client(server: &Server, parameters: &str, key: Option<&str>) -> (Client, Arc<Still>, String) {
    let address = Address::parse(&format!("{}?{parameters}", server.url), &Options::default()).unwrap();
    let clock = Arc::new(Still::default());
    let key = key.map(|key| Secret(key.to_owned()));
    (Client::new(&address.options, key, true, clock.clone()), clock, format!("{}/x", server.url))
}

fn post(client: &Client, url: &str, tokens: u64) -> Result<Vec<u8>, Failure> {
    let request = Request { url, body: Some(b"{}"), tokens, most: 1000, within: Duration::MAX };
    client.ask(&request, |reply: Reply| Ok((reply.body, Some(tokens))))
}

#[test]
fn requests_keep_to_their_minute() {
    let server = Server::start(|_, _| server::Reply::status(200, "ok"));
    let (client, clock, url) = client(&server, "rpm=3&tpm=1000", None);
    let mut starts = Vec::new();
    for _ in 0..7 {
        post(&client, &url, 10).unwrap();
        starts.push(clock.now().as_secs());
    }
    assert_eq!(starts, [0, 0, 0, 60, 60, 60, 120]);
    post(&client, &url, 990).unwrap();
    assert_eq!(clock.now().as_secs(), 120);
    post(&client, &url, 1).unwrap();
    assert_eq!(clock.now().as_secs(), 180);
}

#[test]
fn a_date_is_waited_for_and_every_try_counts_as_a_request() {
    let server = Server::start(|_, number| match number {
        // The clock of the test starts at 08:49:37.
        0 => {
            server::Reply::Whole(503, vec![("Retry-After", "Sun, 06 Nov 1994 08:50:07 GMT".to_owned())], String::new())
        }
        1 => server::Reply::status(500, ""),
        _ => server::Reply::status(200, "ok"),
    });
    let (client, clock, url) = client(&server, "rpm=2", None);
    post(&client, &url, 1).unwrap();
    // After the first try 30 s and up to half a second more, after the second up to a second, and the third is past the two of a minute.
    assert_eq!(clock.now(), Duration::from_secs(60));
    assert_eq!(server.requests().len(), 3);
}

#[test]
fn tries_end_at_the_deadline() {
    let server = Server::start(|_, _| server::Reply::status(503, "busy"));
    let (client, clock, url) = client(&server, "retries=1000&deadline=40", None);
    let failure = post(&client, &url, 1).unwrap_err();
    assert!(failure.what.contains("busy; tried") && failure.what.contains("deadline of 40 s"), "{}", failure.what);
    assert!(clock.now() <= Duration::from_secs(40));
}

#[test]
fn a_key_is_sent_and_not_shown() {
    let server = Server::start(|request, _| {
        let sent = request.header("authorization").unwrap_or("none");
        server::Reply::status(401, &format!("{{\"error\":{{\"message\":\"no such key: {sent}\"}}}}"))
    });
    let (client, _, url) = client(&server, "", Some("sk-secret"));
    let failure = post(&client, &url, 1).unwrap_err();
    assert!(failure.what.ends_with("no such key: Bearer ***"), "{}", failure.what);
    assert_eq!(server.requests()[0].header("authorization"), Some("Bearer sk-secret"));
    assert!(!format!("{failure:?}").contains("sk-secret"));
}

#[test]
fn the_keys_of_openai_and_cohere_go_to_their_hosts_only() {
    let set = |name: &str| match name {
        "OPENAI_API_KEY" => Some("o".to_owned()),
        "CO_API_KEY" => Some(" c\n".to_owned()),
        "MINE" => Some("m".to_owned()),
        _ => None,
    };
    let of = |address: &str| {
        let address = Address::parse(address, &Options::default()).unwrap();
        key(&address, &set).map(|key| key.map(|Secret(key)| key))
    };
    assert_eq!(of("https://api.openai.com/v1?model=m").unwrap().as_deref(), Some("o"));
    assert_eq!(of("https://api.cohere.com?model=m").unwrap().as_deref(), Some("c"));
    assert_eq!(of("openai+https://elsewhere/v1?model=m").unwrap(), None);
    assert_eq!(of("openai+https://elsewhere/v1?model=m&key_env=MINE").unwrap().as_deref(), Some("m"));
    assert!(of("openai+https://elsewhere/v1?model=m&key_env=YOURS").unwrap_err().to_string().contains("YOURS"));
    let ours = Address::parse("https://api.openai.com", &Options::default()).unwrap();
    let both = |name: &str| if name == "EMBRAL_API_KEY" { Some("e".to_owned()) } else { set(name) };
    assert_eq!(key(&ours, &both).unwrap().map(|Secret(key)| key).as_deref(), Some("e"));
    assert_eq!(ours.kind, Some(Kind::OpenAi));
}
