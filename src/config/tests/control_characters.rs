//! No control character of `cache.parameters` reaches a server: a line end would begin a line of its own
//! there, whatever protocol it speaks.

use super::super::parameters::parse;

#[test]
fn each_value_with_a_control_character_is_refused_and_not_shown() {
    let values = [
        "host",
        "port",
        "username",
        "password",
        "passwordFile",
        "caFile",
        "certFile",
        "keyFile",
        "db",
        "prefix",
        "socket",
        "sentinels",
        "sentinelMaster",
        "sentinelUsername",
        "sentinelPassword",
        "nodes",
        "secure",
        "cluster",
        "url",
        "unknown",
    ];
    for key in values {
        for control in ["\r\n", "\n", "\r", "\0", "\u{1b}", "\u{7f}", "\u{85}", "\t"] {
            for text in [
                format!("host=a,{key}=be{control}QUIT"),
                format!("{key}={control}QUIT{control}x,db=1"),
                format!("{key}{control}QUIT=x"),
            ] {
                let (found, problems) = parse(&text, true);
                let said = format!("{problems:?}");
                assert!(!problems.is_empty(), "{text:?}: {found:?}");
                assert!(!said.contains("QUIT"), "{text:?}: {said}");
                let kept = format!(
                    "{found:?} {:?}",
                    [&found.password, &found.sentinel_password]
                        .map(|s| s.as_ref().map(|s| s.expose().to_owned()))
                );
                assert!(!kept.contains("QUIT"), "{text:?}: {kept}");
            }
        }
    }
    for url in [
        "redis://u%0d%0aQUIT:p@h",
        "redis://u:p%0aQUIT@h",
        "redis://h/0?user=a%0d%0aQUIT",
        "redis://h\r\nQUIT",
    ] {
        let (found, problems) = parse(url, false);
        assert!(!problems.is_empty() && found.username.is_none() && found.password.is_none(), "{url:?}");
    }
}

#[test]
fn line_ends_around_parts_are_those_of_a_block_of_yaml() {
    let (found, problems) = parse("host=a,\n  port=7000,\n  password=s,w\n", true);
    assert_eq!(problems.len(), 1, "only the comma in the password: {problems:?}");
    assert_eq!((found.host.as_deref(), found.port), (Some("a"), 7000));
    let (found, problems) = parse("host=a ,\r\n db=1,\r\n password=secret\r\n", true);
    assert_eq!((found.database, problems.len()), (1, 0), "{problems:?}");
    assert_eq!(found.password.as_ref().map(|password| password.expose()), Some("secret"));
}
