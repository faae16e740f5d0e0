//! Unix sockets and TLS.

use crate::support::{Reply, settings, start, try_start};
use embral_server::Settings;
use std::{io::Write, os::unix::net::UnixStream, path::PathBuf, process::Command};

const REQUEST: &str = "GET /live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";

#[test]
fn a_unix_socket_answers_and_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("embral.sock");
    let with = |path: &PathBuf| Settings { uds: Some(path.clone()), ..settings() };
    let server = start(with(&path));
    let mut stream = UnixStream::connect(&path).unwrap();
    stream.write_all(REQUEST.as_bytes()).unwrap();
    assert_eq!(Reply::read(&mut stream).status, 200);
    assert!(try_start(with(&path)).err().unwrap().to_string().contains("somebody listens"));
    server.stop();
    assert!(!path.exists());
    // What a process that was killed left behind is taken over; any other file is not.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    start(with(&path)).stop();
    std::fs::write(&path, "kept").unwrap();
    assert!(try_start(with(&path)).err().unwrap().to_string().contains("another file"));
    assert_eq!(std::fs::read(&path).unwrap(), b"kept");
}

#[test]
fn tls_answers_with_its_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"])
        .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(&cert)
        .output();
    if !made.is_ok_and(|made| made.status.success()) {
        println!("SKIPPED: no openssl to make a certificate with");
        return;
    }
    let with = |cert: &PathBuf, key: &PathBuf| Settings {
        tls_cert: Some(cert.clone()),
        tls_key: Some(key.clone()),
        ..settings()
    };
    let server = start(with(&cert, &key));
    let mut client = Command::new("openssl")
        .args(["s_client", "-quiet", "-verify_return_error", "-CAfile"])
        .arg(&cert)
        .args(["-connect", &server.address.to_string()])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let mut stdin = client.stdin.take().unwrap();
    stdin.write_all(REQUEST.as_bytes()).unwrap();
    let reply = Reply::read(&mut client.stdout.take().unwrap());
    assert_eq!(reply.status, 200);
    drop(stdin);
    let _ = client.wait();
    // Without TLS there is no answer, and the server goes on.
    assert_ne!(server.raw(REQUEST.as_bytes()).status, 200);
    let error = try_start(with(&key, &cert)).err().unwrap().to_string();
    assert!(error.contains("key.pem") && error.contains("certificates"), "{error}");
}
