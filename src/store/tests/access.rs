//! Credentials and TLS.

use std::time::Duration;

use super::{contents, put};
use crate::{
    config::RedisSettings,
    runtime::ports::Store,
    store::{
        RedisSettingsError, RedisStore, instance_id,
        testing::{RedisServer, authority},
    },
};
use routr_registration::model::StoreError;

const PASSWORD: &str = "s3cret=with,odd chars";
const WRONG: &str = "wr0ng-passw0rd";

/// The permissions that the module's documentation asks for, and no more.
const PERMISSIONS: [&str; 12] = [
    "~routr-registry:*",
    "+ping",
    "+get",
    "+set",
    "+expire",
    "+hset",
    "+hdel",
    "+hgetall",
    "+hlen",
    "+multi",
    "+exec",
    "on",
];

fn store(settings: &RedisSettings) -> RedisStore {
    RedisStore::new(settings, "access").unwrap()
}

fn assert_denied(result: Result<(), StoreError>, cause: &str) {
    let Err(StoreError::Denied(text)) = &result else { panic!("not denied: {result:?}") };
    assert!(text.starts_with("127.0.0.1:"), "{text}");
    assert!(text.contains(cause), "{text}");
    assert!(!text.contains(WRONG) && !text.contains(PASSWORD), "{text}");
}

#[tokio::test]
async fn a_password_lets_in_and_a_wrong_one_does_not() {
    let server = RedisServer::start(&["--requirepass", PASSWORD]).await;
    let good = store(&server.settings_for(None, Some(PASSWORD)));
    good.apply(vec![put("a", 1)]).await.unwrap();
    assert_eq!(contents(&good).await.len(), 1);

    let bad = store(&server.settings_for(None, Some(WRONG)));
    assert_denied(bad.ping().await, "WRONGPASS");
    assert_denied(bad.load().await.map(drop), "WRONGPASS");
    assert_denied(bad.apply(vec![put("a", 2)]).await, "WRONGPASS");
    assert_denied(bad.detect_data_loss().await.map(drop), "WRONGPASS");
    assert_denied(store(&server.settings()).ping().await, "NOAUTH");
    assert_denied(
        instance_id(&server.settings_for(None, Some(WRONG)), "k", "p").await.map(drop),
        "WRONGPASS",
    );
    assert_eq!(contents(&good).await["a"].cseq, 1);
}

#[tokio::test]
async fn refused_credentials_are_tried_once_for_each_call() {
    let server = RedisServer::start(&["--requirepass", PASSWORD]).await;
    let mut admin = server.admin(Some("s3cret=with,odd%20chars"));
    let bad = store(&server.settings_for(None, Some(WRONG)));
    let before = admin.info("stats", "total_connections_received");
    for _ in 0..3 {
        assert_denied(bad.load().await.map(drop), "WRONGPASS");
    }
    assert_eq!(admin.info("stats", "total_connections_received") - before, 3);
}

#[tokio::test]
async fn a_password_that_redis_does_not_have_is_explained() {
    let server = RedisServer::start(&[]).await;
    let result = store(&server.settings_for(None, Some(WRONG))).ping().await;
    assert_denied(result, "a password is set here, but Redis has none");
}

#[tokio::test]
async fn the_documented_permissions_are_enough_and_fewer_are_reported() {
    let server = RedisServer::start(&[]).await;
    let mut admin = server.admin(None);
    let password = format!(">{PASSWORD}");
    let create = |name| [&["ACL", "SETUSER", name, &password][..], &PERMISSIONS].concat();
    let () = admin.ask(&create("registry"));
    let settings = server.settings_for(Some("registry"), Some(PASSWORD));
    let instance = instance_id(&settings, "here", "proposed").await.unwrap();
    let store = RedisStore::new(&settings, &instance).unwrap().with_identity("here");
    store.ping().await.unwrap();
    assert_eq!(contents(&store).await.len(), 0);
    store.apply(vec![put("a", 1), put("b", 1), super::forget("c")]).await.unwrap();
    assert_eq!(store.detect_data_loss().await, Ok(false));
    assert_eq!(contents(&store).await.len(), 2);

    // The connection that is open loses a permission: said at once, and fixed at once.
    for command in ["hset", "multi", "hdel"] {
        let () = admin.ask(&["ACL", "SETUSER", "registry", &format!("-{command}")]);
        assert_denied(store.apply(vec![put("a", 2), super::forget("b")]).await, "NOPERM");
        let () = admin.ask(&["ACL", "SETUSER", "registry", &format!("+{command}")]);
        store.apply(vec![put("a", 3)]).await.unwrap();
    }
    let () = admin.ask(&["ACL", "SETUSER", "registry", "off"]);
    let off = RedisStore::new(&settings, "x").unwrap();
    assert_denied(off.ping().await, "WRONGPASS");
}

#[tokio::test]
async fn each_missing_permission_is_named_with_what_to_add_to_the_acl() {
    let server = RedisServer::start(&[]).await;
    let mut admin = server.admin(None);
    let password = format!(">{PASSWORD}");
    let commands = PERMISSIONS.iter().filter_map(|permission| permission.strip_prefix('+'));
    let all =
        commands.map(|name| (format!("-{name}"), format!("the command {name}; add +{name} to its ACL")));
    let keys =
        ("resetkeys".to_owned(), "the keys of routr-registry; add ~routr-registry:* to its ACL".to_owned());
    for (n, (taken, named)) in all.chain([keys]).enumerate() {
        let user = format!("user{n}");
        let () = admin.ask(&[&["ACL", "SETUSER", &user, &password][..], &PERMISSIONS, &[&taken]].concat());
        let settings = server.settings_for(Some(&user), Some(PASSWORD));
        let mut said = Vec::new();
        let mut note = |result: Result<(), StoreError>| said.extend(result.err());
        note(instance_id(&settings, &user, "proposed").await.map(drop));
        let store = RedisStore::new(&settings, &user).unwrap();
        note(store.ping().await);
        note(store.apply(vec![put("a", 1), put("b", 1), super::forget("c")]).await);
        note(store.load().await.map(drop));
        note(store.detect_data_loss().await.map(drop));
        assert!(!said.is_empty(), "{taken}: nothing is said");
        for error in said {
            assert_denied(Err(error), &format!("NOPERM: the user lacks a permission: {named}"));
        }
    }
}

#[tokio::test]
async fn only_what_speaks_of_a_login_counts_as_refused_credentials() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    for (reply, denied) in [
        ("-ERR invalid password\r\n", true),
        ("-ERR unknown command 'AUTH'\r\n", true),
        ("-WRONGPASS invalid username-password pair or user is disabled.\r\n", true),
        // As a proxy says that has lost its Redis: it would stay away for minutes if this counted as rejected
        // credentials.
        ("-ERR upstream failure\r\n", false),
        ("-LOADING Redis is loading the dataset in memory\r\n", false),
    ] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = routr_types::host::HostPort::new("127.0.0.1", listener.local_addr().unwrap().port());
        let serving = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                while stream.read(&mut [0; 512]).await.is_ok_and(|length| length > 0) {
                    let _ = stream.write_all(reply.as_bytes()).await;
                }
            }
        });
        let password = Some(routr_types::secret::Secret::new(PASSWORD));
        let settings = RedisSettings { address, password, ..RedisServer::stopped(&[]).settings() };
        match store(&settings).ping().await {
            Err(StoreError::Denied(_)) => assert!(denied, "{reply}"),
            Err(StoreError::Unavailable(_)) => assert!(!denied, "{reply}"),
            other => panic!("{reply}: {other:?}"),
        }
        serving.abort();
    }
}

#[tokio::test]
async fn a_user_without_a_password_is_let_in() {
    let server = RedisServer::start(&[]).await;
    let mut admin = server.admin(None);
    let () = admin.ask(&["ACL", "SETUSER", "open", "on", "nopass", "~*", "+@all"]);
    let () = admin.ask(&["ACL", "SETUSER", "default", "off"]);
    store(&server.settings_for(Some("open"), None)).apply(vec![put("a", 1)]).await.unwrap();
}

#[tokio::test]
async fn a_password_set_later_is_noticed_on_the_open_connection() {
    let server = RedisServer::start(&[]).await;
    let mut admin = server.admin(None);
    let () = admin.ask(&["ACL", "SETUSER", "registry", "on", ">one", "~*", "+@all"]);
    let old = store(&server.settings_for(Some("registry"), Some("one")));
    old.ping().await.unwrap();
    let () = admin.ask(&["ACL", "DELUSER", "registry"]);
    assert_denied(old.ping().await, "WRONGPASS");
    let () = admin.ask(&["ACL", "SETUSER", "registry", "on", ">one", "~*", "+@all"]);
    old.ping().await.unwrap();
}

#[tokio::test]
async fn tls_works_with_the_right_ca_only() {
    let mut server = RedisServer::start_tls().await;
    let settings = server.settings();
    let good = store(&settings);
    good.apply(vec![put("a", 1)]).await.unwrap();
    assert_eq!(contents(&good).await.len(), 1);
    server.kill();
    assert!(matches!(good.ping().await, Err(StoreError::Unavailable(_))));
    server.run().await;
    good.ping().await.unwrap();

    let other = server.write("other.pem", &authority().1);
    let with_other = store(&RedisSettings { ca_file: Some(other), ..settings.clone() });
    let system_roots = store(&RedisSettings { ca_file: None, ..settings.clone() });
    for store in [with_other, system_roots] {
        let Err(StoreError::Unavailable(text)) = store.ping().await else { panic!("let in") };
        assert!(text.contains("certificate"), "{text}");
    }
    let by_name = routr_types::host::HostPort::new("localhost", settings.address.port);
    let error = store(&RedisSettings { address: by_name, ..settings.clone() }).ping().await.unwrap_err();
    assert!(error.to_string().contains("certificate"), "{error}");
    let plain = RedisSettings { secure: false, ..settings };
    assert!(matches!(store(&plain).ping().await, Err(StoreError::Unavailable(_))));
}

#[tokio::test]
async fn tls_to_a_plain_server_fails_and_does_not_hang() {
    let server = RedisServer::start(&[]).await;
    let settings = RedisSettings { secure: true, ..server.settings() };
    // Redis takes the TLS greeting for half a command, and waits for the rest.
    let result = store(&settings).with_timeout(Duration::from_millis(300)).ping().await;
    assert!(matches!(result, Err(StoreError::Unavailable(_))), "{result:?}");
}

#[test]
fn a_bad_ca_file_is_reported_before_anything_is_sent() {
    let server = RedisServer::stopped(&[]);
    let with = |ca_file| {
        RedisStore::new(&RedisSettings { secure: true, ca_file: Some(ca_file), ..server.settings() }, "x")
    };
    let missing = server.write("x", "").with_file_name("missing.pem");
    let error = with(missing).err().unwrap().to_string();
    assert!(
        error.starts_with("spec.cache.parameters.caFile: ") && error.contains("cannot be read"),
        "{error}"
    );
    let broken = "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n";
    let no_certificate = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for text in ["", "no PEM", broken, no_certificate] {
        let error = with(server.write("bad.pem", text)).err();
        assert!(matches!(error, Some(RedisSettingsError::Tls(_))), "{text:?}: {error:?}");
    }
}

/// The server that listens there is another one, and gets nothing of a configuration but a PING.
#[tokio::test]
async fn a_server_that_is_no_redis_gets_a_ping_and_is_not_quoted() {
    use std::sync::{Arc, Mutex};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    for says in [
        "220 internal.example ESMTP s3cretly\r\n",
        "+OK s3cretly POP3\r\n",
        "+s3cretly\r\n",
        "HTTP/1.1 400 s3cretly\r\n\r\n",
        "-S3CRETLY s3cretly\r\n",
        "$8\r\ns3cretly\r\n",
        "ERROR s3cretly\r\n",
        "SSH-2.0-s3cretly\r\n",
    ] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = routr_types::host::HostPort::new("127.0.0.1", listener.local_addr().unwrap().port());
        let heard = Arc::new(Mutex::new(Vec::new()));
        let all = heard.clone();
        let serving = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut buffer = [0; 512];
                while let Ok(length @ 1..) = stream.read(&mut buffer).await {
                    all.lock().unwrap().extend_from_slice(&buffer[..length]);
                    let _ = stream.write_all(says.as_bytes()).await;
                }
            }
        });
        let settings = RedisSettings {
            address,
            username: Some("HELO example".to_owned()),
            password: Some(routr_types::secret::Secret::new("DELETE everything")),
            prefix: "QUIT".to_owned(),
            ..RedisServer::stopped(&[]).settings()
        };
        let error = store(&settings).ping().await.expect_err("no Redis").to_string();
        assert!(!error.to_lowercase().contains("s3cret") && !error.contains("internal"), "{says:?}: {error}");
        let heard = String::from_utf8(heard.lock().unwrap().clone()).unwrap();
        assert!(heard.starts_with("*1\r\n$4\r\nPING\r\n"), "{heard:?}");
        assert_eq!(heard.replace("*1\r\n$4\r\nPING\r\n", ""), "", "{says:?}");
        serving.abort();
    }
}
