//! Prosody of Debian, unmodified, over luassl: `luassl_tests::prosody` says what is needed.

mod needs_prosody {
    use luassl_tests::pki::{self, Leaf};
    use luassl_tests::prosody::{PASSWORD, Ports, Prosody, Setup, pair};
    use luassl_tests::xmpp::{SASL, Xmpp};
    use luassl_tests::{memory, needles, peer, until};
    use openssl::ssl::SslContextBuilder;
    use rustix::process::Signal;
    use std::process::Command;

    /// What a stream header is answered with over TLS, by `openssl s_client`.
    fn features(port: u16, options: &[&str]) -> String {
        let mut client = peer::s_client(port, options);
        client.write(
            "<?xml version='1.0'?><stream:stream to='localhost' xmlns='jabber:client' \
             xmlns:stream='http://etherx.jabber.org/streams' version='1.0'>",
        );
        client.expect("</stream:features>");
        client.output()
    }

    fn serial(port: u16) -> String {
        let tls = peer::connect(port);
        let certificate = tls.ssl().peer_certificate().expect("a certificate");
        let number = certificate.serial_number().to_bn().and_then(|number| number.to_hex_str());
        number.expect("a number").to_string()
    }

    /// A page of `host`'s, fetched by curl, which verifies name and chain.
    fn page(port: u16, host: &str) -> String {
        let page = Command::new("curl")
            .args(["-sS", "--noproxy", "*", "--resolve", &format!("{host}:{port}:127.0.0.1"), "--cacert"])
            .arg(pki::file("ca/root.crt"))
            .arg(format!("https://{host}:{port}/http-bind"))
            .output()
            .expect("curl");
        assert!(page.status.success(), "{page:?}");
        String::from_utf8_lossy(&page.stdout).into_owned()
    }

    #[test]
    fn clients_reach_it_by_starttls_direct_tls_and_https() {
        let prosody = Prosody::start(&Setup::default());
        for version in ["-tls1_2", "-tls1_3"] {
            let options = ["-starttls", "xmpp", "-xmpphost", "localhost", version];
            let said = features(prosody.ports.client, &options);
            assert!(said.contains("SCRAM-SHA-1"), "{said}");
            // The Finished messages of TLS 1.2 bind the channel (tls-unique).
            assert_eq!(said.contains("SCRAM-SHA-1-PLUS"), version == "-tls1_2", "{said}");
        }
        let direct = ["-servername", "localhost", "-alpn", "xmpp-client"];
        features(prosody.ports.direct, &direct);
        assert!(page(prosody.ports.https, "localhost").contains("BOSH"));
    }

    #[test]
    fn https_serves_each_of_two_hosts_by_the_name_asked_for() {
        let hosts = &["localhost", "second.example"];
        let prosody = Prosody::start(&Setup { hosts, ..Setup::default() });
        for host in hosts {
            assert!(page(prosody.ports.https, host).contains("BOSH"), "{host}\n{}", prosody.log());
        }
    }

    /// What the Finished message of the client was: tls-unique of a full handshake (RFC 5929).
    fn finished(client: &Xmpp) -> Vec<u8> {
        let mut bytes = [0; 64];
        let length = client.tls().ssl().finished(&mut bytes);
        bytes[..length].to_vec()
    }

    fn tls_1_2(builder: &mut SslContextBuilder) {
        peer::only(builder, "TLSv1.2");
    }

    #[test]
    fn a_client_logs_in_by_scram_bound_to_the_channel() {
        let prosody = Prosody::start(&Setup::default());
        let mut client = Xmpp::client(prosody.ports.client, "localhost", tls_1_2);
        let binding = finished(&client);
        let logged_in = client.scram("juliet", PASSWORD, "tls-unique", &binding);
        assert_eq!(logged_in, Ok(()), "{}", prosody.log());
        assert!(client.open("").contains("xmpp-bind"), "{}", client.said());
        let bind = "<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>";
        assert!(client.ask(bind, "</iq>").contains("juliet@localhost/"), "{}", client.said());
    }

    #[test]
    fn scram_bound_to_another_channel_is_refused() {
        let prosody = Prosody::start(&Setup::default());
        let other = finished(&Xmpp::client(prosody.ports.client, "localhost", tls_1_2));
        let mut client = Xmpp::client(prosody.ports.client, "localhost", tls_1_2);
        let refused = client.scram("juliet", PASSWORD, "tls-unique", &other).expect_err("another channel");
        assert!(refused.contains("<failure"), "{refused}");
    }

    /// Another server with a certificate of its own, which it also shows to clients.
    fn other_server(port: u16, names: &[&str]) -> Xmpp {
        let leaf = Leaf { common_name: "other", names, ..Leaf::default() };
        let pair = pki::issue(&leaf, Some(&pki::issuer("root")));
        Xmpp::server(port, "localhost", "other.example", |builder| {
            builder.set_certificate(&pair.certificate).expect("a certificate");
            builder.set_private_key(&pair.key).expect("a key");
        })
    }

    #[test]
    fn a_server_authenticates_by_its_certificate() {
        let prosody = Prosody::start(&Setup::default());
        let mut server = other_server(prosody.ports.server, &["other.example"]);
        assert!(server.said().contains("<mechanism>EXTERNAL</mechanism>"), "{}", server.said());
        let name = openssl::base64::encode_block(b"other.example");
        server.ask(&format!("<auth xmlns='{SASL}' mechanism='EXTERNAL'>{name}</auth>"), "<success");
        assert!(!server.open("other.example").contains("EXTERNAL"), "{}", server.said());
        prosody.expect("Accepting SASL EXTERNAL identity from other.example");
    }

    #[test]
    fn a_server_with_a_certificate_of_another_name_does_not() {
        let prosody = Prosody::start(&Setup::default());
        let server = other_server(prosody.ports.server, &["nobody.example"]);
        assert!(server.said().contains("certificate is not valid for this name"), "{}", server.said());
    }

    #[test]
    fn two_of_it_authenticate_to_each_other_by_their_certificates() {
        let (here, there) = (Ports::free(), Ports::free());
        let one = Setup {
            hosts: &["one.example"],
            ports: here,
            routes: &[("two.example", there.server)],
            ..Setup::default()
        };
        let two = Setup {
            hosts: &["two.example"],
            ports: there,
            routes: &[("one.example", here.server)],
            ..Setup::default()
        };
        let (one, two) = (Prosody::start(&one), Prosody::start(&two));
        let mut client = Xmpp::client(one.ports.client, "one.example", tls_1_2);
        let binding = finished(&client);
        client.scram("juliet", PASSWORD, "tls-unique", &binding).expect("a login");
        client.open("");
        client.ask("<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>", "</iq>");
        // The question goes there on one connection, and the answer comes on another.
        let ping = "<iq type='get' id='p' to='two.example'><ping xmlns='urn:xmpp:ping'/></iq>";
        let answer = client.ask(ping, "id='p'");
        assert!(answer.contains("type='result'"), "{answer}\n{}\n{}", one.log(), two.log());
        one.expect("SASL EXTERNAL with two.example succeeded");
        two.expect("Accepting SASL EXTERNAL identity from one.example");
        two.expect("SASL EXTERNAL with one.example succeeded");
        one.expect("Accepting SASL EXTERNAL identity from two.example");
    }

    #[test]
    fn the_key_is_not_in_its_memory() {
        let prosody = Prosody::start(&Setup::default());
        drop(peer::connect(prosody.ports.https));
        let needles = needles::of_pem(&prosody.key("localhost")).expect("a key");
        assert_eq!(memory::scan(prosody.pid(), &needles).expect("its memory").total(), 0);
    }

    #[test]
    fn a_renewed_certificate_is_served_without_a_reload_of_it() {
        let prosody = Prosody::start(&Setup::default());
        let before = serial(prosody.ports.https);
        prosody.renew("localhost", &pair("localhost"));
        prosody.daemon.signal(Signal::HUP);
        until("the renewed certificate", || serial(prosody.ports.https) != before);
    }

    #[test]
    fn prosodyctl_reload_renews_the_certificate_that_is_its_own() {
        let prosody = Prosody::start(&Setup { chains: false, ..Setup::default() });
        let before = serial(prosody.ports.https);
        let key = pki::private_key(&prosody.key("localhost"));
        let renewed = pki::issue_for(key, &Leaf::default(), Some(&pki::issuer("root")));
        prosody.renew_its_own("localhost", &renewed);
        let said = prosody.control(&["reload"]);
        assert!(said.status.success(), "{said:?}");
        prosody.expect("Received SIGHUP");
        until("the renewed certificate", || serial(prosody.ports.https) != before);
        features(prosody.ports.direct, &["-servername", "localhost"]);
        let starttls = ["-starttls", "xmpp", "-xmpphost", "localhost"];
        features(prosody.ports.client, &starttls);
    }

    #[test]
    fn in_the_background_it_goes_on_with_contexts_of_before_the_fork() {
        let prosody = Prosody::start(&Setup { daemonized: true, ..Setup::default() });
        let starttls = ["-starttls", "xmpp", "-xmpphost", "localhost"];
        features(prosody.ports.client, &starttls);
        assert!(page(prosody.ports.https, "localhost").contains("BOSH"));
        let said = prosody.control(&["reload"]);
        assert!(said.status.success(), "{said:?}");
        prosody.expect("Received SIGHUP");
        features(prosody.ports.direct, &["-servername", "localhost"]);
        let needles = needles::of_pem(&prosody.key("localhost")).expect("a key");
        assert_eq!(memory::scan(prosody.pid(), &needles).expect("its memory").total(), 0);
    }
}
