//! Errors of Redis, in our own words. Anyone who may name an address must not read through us what listens
//! there, so nothing that came from it is ever quoted: of an error its code, where it is one of Redis's own;
//! of anything else its kind and its length.

use redis::{ErrorKind, RedisError, ServerError};

/// Codes of Redis, and what each means.
const CODES: [(&str, &str); 20] = [
    ("ASK", "the keys are on their way to another node"),
    ("BUSY", "it is busy with a script"),
    ("CLUSTERDOWN", "the cluster is down"),
    ("CROSSSLOT", "the keys are in different slots"),
    ("DENIED", "protected mode: it takes connections of its own machine only, until it has a password"),
    ("EXECABORT", "a transaction was aborted"),
    ("LOADING", "it is loading its data"),
    ("MASTERDOWN", "it is a replica, and its master is down"),
    ("MISCONF", "it cannot save its data, so it takes no writes"),
    ("MOVED", "another node has the keys"),
    ("NOAUTH", "it demands a password"),
    ("NOPERM", "the user lacks a permission"),
    ("NOPROTO", "it does not know this version of the protocol"),
    ("NOREPLICAS", "it has too few replicas to take writes"),
    ("OOM", "it is full: maxmemory is reached"),
    ("READONLY", "it is a replica, which takes no writes"),
    ("TRYAGAIN", "the keys are on their way to another node"),
    ("UNBLOCKED", "it is now a replica"),
    ("WRONGPASS", "wrong username or password"),
    ("WRONGTYPE", "a key holds another kind of value"),
];

/// Beginnings of the texts of an ERR, and their meanings.
const ERRORS: [(&str, &str); 11] = [
    ("max number of clients", "max number of clients reached"),
    ("unknown command", "it does not know the command"),
    ("unknown subcommand", "it does not know the command"),
    ("wrong number of arguments", "it wants other arguments"),
    ("DB index is out of range", "it has no database of this number"),
    ("invalid DB index", "it has no database of this number"),
    ("SELECT is not allowed in cluster mode", "a cluster has the database 0 alone"),
    ("syntax error", "syntax error"),
    ("invalid password", "invalid password"),
    ("Client sent AUTH, but no password is set", "a password is set here, but Redis has none"),
    ("Protocol error", "it does not understand what is sent"),
];

/// Commands that a permission may be missing for.
const COMMANDS: [&str; 15] = [
    "asking", "auth", "exec", "expire", "get", "hdel", "hgetall", "hlen", "hset", "multi", "ping", "select",
    "sentinel", "set", "exists",
];

/// The code of an error. Where EXEC itself is refused, the reason comes after another one.
pub(super) fn code(error: &ServerError) -> &str {
    let refused = error.details().unwrap_or_default().contains("because of: NOPERM ");
    if error.code() == "EXECABORT" && refused { "NOPERM" } else { error.code() }
}

/// An error that a server sent; all keys begin with `keys`.
pub(super) fn of_server(error: &ServerError, keys: &str) -> String {
    let (code, details) = (code(error), error.details().unwrap_or_default());
    let bytes = code.len() + details.len();
    if code == "ERR" {
        let known = ERRORS.iter().find(|(begin, _)| details.starts_with(begin)).map(|(_, words)| *words);
        return known.map_or_else(
            || format!("ERR, with {} bytes of text", details.len()),
            |words| format!("ERR: {words}"),
        );
    }
    let Some((code, words)) = CODES.iter().find(|(known, _)| *known == code) else {
        return format!("an error of {bytes} bytes with a code that Redis does not have");
    };
    let command = COMMANDS.iter().find(|name| details.to_ascii_lowercase().contains(&format!("'{name}'")));
    match (*code, command) {
        ("NOPERM", Some(command)) => {
            format!("{code}: {words}: the command {command}; add +{command} to its ACL")
        }
        // Redis 6: `one of the keys used as arguments`; 7 and later: `access a key`.
        ("NOPERM", None) if details.contains("key") => {
            format!("{code}: {words}: the keys of routr-registry; add ~{keys}* to its ACL")
        }
        _ => format!("{code}: {words}"),
    }
}

/// Returns whether an error is one that Redis sends and after which a connection goes on.
pub(super) fn is_of_redis(error: &RedisError) -> bool {
    let server = error.clone().into_server_errors();
    server.as_deref().and_then(<[_]>::first).is_some_and(|(_, first)| match first.code() {
        "ERR" => !first.details().unwrap_or_default().starts_with("max number of clients"),
        code => CODES.iter().any(|(known, _)| *known == code),
    })
}

/// A failure that no server named: of the connection, or of what came by it.
pub(super) fn of_library(error: &RedisError) -> String {
    match error.kind() {
        // The operating system's words, or those of TLS.
        _ if error.is_io_error() => error.to_string(),
        ErrorKind::Parse => "what it sends is no response of Redis".to_owned(),
        ErrorKind::UnexpectedReturnType => {
            "its response is of another type than Redis sends; what listens there may be no Redis".to_owned()
        }
        kind => format!("the Redis client failed ({kind:?})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(wire: &[u8]) -> RedisError {
        redis::parse_redis_value(wire).and_then(redis::Value::extract_error).expect_err("an error")
    }

    fn words(wire: &[u8]) -> String {
        let error = parsed(wire);
        let server = error.clone().into_server_errors();
        server
            .as_deref()
            .and_then(<[_]>::first)
            .map_or_else(|| of_library(&error), |(_, first)| of_server(first, "p:routr-registry:"))
    }

    #[test]
    fn what_redis_says_is_in_our_words() {
        assert_eq!(
            words(b"-OOM command not allowed when used memory > 'maxmemory'.\r\n"),
            "OOM: it is full: maxmemory is reached"
        );
        assert_eq!(
            words(b"-NOPERM User registry has no permissions to run the 'hset' command\r\n"),
            "NOPERM: the user lacks a permission: the command hset; add +hset to its ACL"
        );
        assert_eq!(
            words(b"-EXECABORT Transaction discarded because of: NOPERM User a has no permissions to run the 'exec' command\r\n"),
            "NOPERM: the user lacks a permission: the command exec; add +exec to its ACL"
        );
        for wire in [
            &b"-NOPERM No permissions to access a key\r\n"[..],
            b"-NOPERM this user has no permissions to access one of the keys used as arguments\r\n",
        ] {
            let said = "NOPERM: the user lacks a permission: the keys of routr-registry; add ~p:routr-registry:* to its ACL";
            assert_eq!(words(wire), said);
        }
        assert_eq!(words(b"-ERR max number of clients reached\r\n"), "ERR: max number of clients reached");
    }

    #[test]
    fn nothing_that_is_no_redis_is_quoted() {
        for wire in [
            &b"-ERR s3cret\r\n"[..],
            b"-s3cret\r\n",
            b"-S3CRET s3cret\r\n",
            b"-NOPERM s3cret 'hset' s3cret\r\n",
            b"-LOADING s3cret\r\n",
            b"220 s3cret ESMTP\r\n",
            b"HTTP/1.1 400 s3cret\r\n\r\n",
            b"SSH-2.0-s3cret\r\n",
            b"s3cret\r\n",
        ] {
            let words = words(wire);
            assert!(!words.to_lowercase().contains("s3cret"), "{words}");
        }
        let value = redis::Value::SimpleString("OK s3cret".to_owned());
        let error = redis::from_redis_value::<Vec<u64>>(value).expect_err("no list");
        assert!(!of_library(&error.into()).contains("s3cret"));
    }
}
