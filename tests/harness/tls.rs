//! A client that speaks TLS, for what is behind a proxy: HTTP requests, and a websocket of the lobby.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use openssl::ssl::{SslConnector, SslMethod, SslStream};
use openssl::x509::X509;
use openssl::x509::store::X509StoreBuilder;
use serde_json::{Value, json};
use tungstenite::client::IntoClientRequest;
use tungstenite::{Error, Message, WebSocket};

use super::PATIENCE;
use super::certificates::Authority;
use super::http::{Answer, connect_from, read_answer};
use super::proxy::SITE;

/// Connects to the site at this address, from this address of loopback. Trusts the authority only.
pub fn connect(address: SocketAddr, from: [u8; 4], authority: &Authority) -> SslStream<TcpStream> {
    let stream = connect_from(from, address);
    stream.set_nodelay(true).expect("a socket option");
    stream.set_write_timeout(Some(PATIENCE)).expect("a socket option");
    let mut connector = SslConnector::builder(SslMethod::tls_client()).expect("a connector");
    let mut store = X509StoreBuilder::new().expect("a store");
    store.add_cert(X509::from_pem(&authority.pem()).expect("a certificate")).expect("a store");
    connector.set_cert_store(store.build());
    connector.build().connect(SITE, stream).expect("a TLS handshake")
}

/// Sends a request and reads its answer. `fields` end with CR LF each.
pub fn request(stream: SslStream<TcpStream>, method: &str, path: &str, fields: &str, body: &str) -> Answer {
    let mut stream = stream;
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {SITE}\r\nConnection: close\r\nContent-Length: {length}\r\n{fields}\r\n"
    );
    // The proxy may answer before it has read everything.
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes()));
    read_answer(&mut stream)
}

/// A client of the lobby over `wss`.
pub struct TlsClient(WebSocket<SslStream<TcpStream>>);

impl TlsClient {
    /// Joins, or returns the answer that refuses the join: its status and its body.
    pub fn join(stream: SslStream<TcpStream>, token: &str) -> Result<TlsClient, (u16, String)> {
        let mut request = format!("wss://{SITE}/join").into_client_request().expect("a request");
        let field = format!("Bearer {token}").parse().expect("a header value");
        request.headers_mut().insert("Authorization", field);
        match tungstenite::client::client(request, stream) {
            Ok((socket, _)) => Ok(TlsClient(socket)),
            Err(tungstenite::HandshakeError::Failure(Error::Http(response))) => {
                let body = response.body().as_deref().unwrap_or_default();
                Err((response.status().as_u16(), String::from_utf8_lossy(body).into_owned()))
            }
            Err(error) => Err((0, error.to_string())),
        }
    }

    pub fn say(&mut self, text: &str) {
        let frame = json!({"type": "chat_message", "msg": {"text": text}}).to_string();
        self.0.send(Message::text(frame)).expect("sending");
    }

    /// Reads frames until one has this type and `msg`.
    pub fn wait_for(&mut self, kind: &str, msg: &Value) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            assert!(Instant::now() < deadline, "timed out waiting for {kind} {msg}");
            if let Message::Text(text) = self.0.read().expect("a frame") {
                let frame: Value = serde_json::from_str(&text).expect("JSON");
                if frame["type"] == kind && frame["msg"] == *msg {
                    return;
                }
            }
        }
    }
}
