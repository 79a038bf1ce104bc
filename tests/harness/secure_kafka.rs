//! A real Kafka broker with one listener for each way to connect: with TLS, client certificates, SASL, and with
//! certificates that clients must not accept. Rights are checked (ACLs).

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;

use super::certificates::{Authority, Certificate, EXPIRED, NOT_YET_VALID, VALID};
use super::kafka::{Broker, VERSIONS};
use super::ports::free_ports;

/// The password of all users.
pub const PASSWORD: &str = "hunter2 of the test";
/// The user that may do everything.
pub const USER: &str = "ich";
/// Users with the rights that [`SecureBroker::grant`] gives them.
pub const RESTRICTED: [&str; 4] = ["reader", "writer", "creator", "stranger"];

/// The listeners, besides the one without encryption: name in Kafka, protocol, hosts and time of the certificate.
const LISTENERS: [(&str, &str, &str, (i64, i64)); 8] = [
    ("TLS", "SSL", "127.0.0.1", VALID),
    ("MUTUAL", "SSL", "127.0.0.1", VALID),
    ("EXPIRED", "SSL", "127.0.0.1", EXPIRED),
    ("FUTURE", "SSL", "127.0.0.1", NOT_YET_VALID),
    ("NAME", "SSL", "kafka.example", VALID),
    ("USER", "SASL_PLAINTEXT", "", VALID),
    ("USERTLS", "SASL_SSL", "127.0.0.1", VALID),
    ("UNTRUSTED", "SSL", "127.0.0.1", VALID),
];

/// See the module.
pub struct SecureBroker {
    pub broker: Broker,
    /// Beside the data of the broker.
    folder: PathBuf,
    ports: Vec<u16>,
}

impl SecureBroker {
    /// `None`: Kafka cannot be started here, and the test is skipped.
    pub fn start() -> Option<SecureBroker> {
        let broker = Broker::own_not_started(VERSIONS[0], 1)?;
        let folder = broker.folder().to_owned();
        let ports = free_ports(LISTENERS.len());
        let secure = SecureBroker { broker, folder, ports };
        secure.configure();
        secure.broker.start_all();
        Some(secure)
    }

    fn configure(&self) {
        let (authority, other) = (Authority::new(), Authority::new());
        fs::write(self.file("ca.pem"), authority.pem()).expect("writing");
        for (name, authority) in [("client", &authority), ("stranger", &other)] {
            let Certificate { certificate, key } = authority.issue("ich client", &[]);
            fs::write(self.file(&format!("{name}.pem")), certificate).expect("writing");
            fs::write(self.file(&format!("{name}-key.pem")), key).expect("writing");
        }
        let path = self.folder.join("node1.properties");
        let mut properties = fs::read_to_string(&path).expect("the properties");
        let value = |name: &str| {
            let line = properties.lines().find_map(|line| line.strip_prefix(&format!("{name}=")));
            line.expect("the property").to_owned()
        };
        let mut listeners = value("listeners");
        let mut advertised = value("advertised.listeners");
        let mut protocols = value("listener.security.protocol.map");
        let mut more = String::new();
        for ((name, protocol, host, valid), port) in LISTENERS.into_iter().zip(&self.ports) {
            listeners.push_str(&format!(",{name}://127.0.0.1:{port}"));
            advertised.push_str(&format!(",{name}://127.0.0.1:{port}"));
            protocols.push_str(&format!(",{name}:{protocol}"));
            let prefix = format!("listener.name.{}", name.to_lowercase());
            if protocol.ends_with("SSL") {
                let authority = if name == "UNTRUSTED" { &other } else { &authority };
                let issued = authority.issue_for("broker", &[host], valid);
                let keystore = self.file(&format!("{name}.pem"));
                fs::write(&keystore, [issued.key, issued.certificate].concat()).expect("writing");
                more.push_str(&format!("{prefix}.ssl.keystore.type=PEM\n{prefix}.ssl.keystore.location={keystore}\n"));
            }
            if name == "MUTUAL" {
                let trusted = self.file("ca.pem");
                more.push_str(&format!(
                    "{prefix}.ssl.client.auth=required\n{prefix}.ssl.truststore.type=PEM\n\
                     {prefix}.ssl.truststore.location={trusted}\n"
                ));
            }
            if protocol.starts_with("SASL") {
                more.push_str(&format!(
                    "{prefix}.sasl.enabled.mechanisms=SCRAM-SHA-512\n{prefix}.scram-sha-512.sasl.jaas.config=\
                     org.apache.kafka.common.security.scram.ScramLoginModule required;\n"
                ));
            }
        }
        properties.push_str(&format!(
            "listeners={listeners}\nadvertised.listeners={advertised}\nlistener.security.protocol.map={protocols}\n{more}\
             authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer\n\
             super.users=User:ANONYMOUS;User:{USER};User:CN=ich client\n"
        ));
        fs::write(path, properties).expect("writing the properties");
        let users = RESTRICTED.iter().chain([&USER]);
        let users = users.map(|user| format!("--add-scram\nSCRAM-SHA-512=[name={user},password={PASSWORD}]\n"));
        fs::write(self.folder.join("node1.format"), users.collect::<String>()).expect("writing");
    }

    /// The address of the listener with this name.
    pub fn address(&self, listener: &str) -> String {
        format!("127.0.0.1:{}", self.port(listener))
    }

    pub fn port(&self, listener: &str) -> u16 {
        let index = LISTENERS.iter().position(|(name, ..)| *name == listener).expect("a listener");
        self.ports[index]
    }

    /// A file beside the data of the broker: `ca.pem`, `client.pem`, `client-key.pem`, `stranger.pem`, `stranger-key.pem`.
    pub fn file(&self, name: &str) -> String {
        self.folder.join(name).to_str().expect("text").to_owned()
    }

    /// Allows an operation on a topic.
    pub fn grant(&self, user: &str, topic: &str, operation: Operation) {
        const ALLOW: u8 = 3;
        self.create_acl(user, topic, operation, ALLOW);
    }

    /// Forbids an operation on a topic, even if it was allowed.
    pub fn deny(&self, user: &str, topic: &str, operation: Operation) {
        const DENY: u8 = 2;
        self.create_acl(user, topic, operation, DENY);
    }

    /// Sends a request CreateAcls, version 1, of Kafka's protocol. There is no other client for this in the tests.
    fn create_acl(&self, user: &str, topic: &str, operation: Operation, permission: u8) {
        const CREATE_ACLS: i16 = 30;
        const TOPIC: u8 = 2;
        const LITERAL: u8 = 3;
        let mut request = Vec::new();
        let text = |request: &mut Vec<u8>, text: &str| {
            request.extend((text.len() as i16).to_be_bytes());
            request.extend(text.as_bytes());
        };
        request.extend(CREATE_ACLS.to_be_bytes());
        request.extend(1_i16.to_be_bytes());
        request.extend(1_i32.to_be_bytes());
        text(&mut request, "test");
        request.extend(1_i32.to_be_bytes());
        request.push(TOPIC);
        text(&mut request, topic);
        request.push(LITERAL);
        text(&mut request, &format!("User:{user}"));
        text(&mut request, "*");
        request.extend([operation as u8, permission]);
        let mut stream = TcpStream::connect(self.broker.addresses()).expect("connecting");
        stream.write_all(&(request.len() as i32).to_be_bytes()).expect("sending");
        stream.write_all(&request).expect("sending");
        let mut length = [0; 4];
        stream.read_exact(&mut length).expect("an answer");
        let mut answer = vec![0; i32::from_be_bytes(length) as usize];
        stream.read_exact(&mut answer).expect("an answer");
        // The correlation id, the throttle time and the number of results come before the error code.
        assert_eq!(&answer[8..14], [0, 0, 0, 1, 0, 0], "{answer:?}");
    }
}

/// The operations of Kafka's protocol that the tests grant or deny.
#[derive(Clone, Copy)]
pub enum Operation {
    Read = 3,
    Write = 4,
    DescribeConfigs = 10,
}
