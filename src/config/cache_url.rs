//! The URL of a Redis, as its other clients take it.

use percent_encoding::percent_decode_str;

use routr_types::secret::Secret;

use super::address;

const SCHEMES: [&str; 4] = ["redis://", "rediss://", "redis+unix://", "unix://"];

/// Settings from a URL; an absent one keeps its default.
#[derive(Default)]
pub(super) struct CacheUrl {
    pub(super) host: Option<String>,
    pub(super) port: Option<u16>,
    pub(super) username: Option<String>,
    pub(super) password: Option<Secret>,
    pub(super) database: Option<u32>,
    pub(super) socket: Option<String>,
    pub(super) secure: bool,
}

/// Returns whether the text begins as a URL does, of whatever scheme.
pub(super) fn is_url(text: &str) -> bool {
    let scheme = text.trim_start().split("://").next().unwrap_or_default();
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.');
    text.contains("://") && !scheme.is_empty() && scheme.bytes().all(plain)
}

/// Reads a URL. What is wrong with it is said without any of it: it may hold a password.
pub(super) fn parse(text: &str) -> Result<CacheUrl, String> {
    let lower = text.get(..16.min(text.len())).unwrap_or(text).to_ascii_lowercase();
    let Some(scheme) = SCHEMES.iter().find(|scheme| lower.starts_with(**scheme)) else {
        return Err("its scheme is none of redis, rediss, redis+unix and unix".to_owned());
    };
    let rest = text.get(scheme.len()..).unwrap_or_default();
    let rest = rest.split('#').next().unwrap_or_default();
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let mut url = CacheUrl { secure: *scheme == "rediss://", ..CacheUrl::default() };
    if scheme.ends_with("unix://") {
        if !place.starts_with('/') {
            return Err("a socket is named by its whole path, which begins with a slash".to_owned());
        }
        url.socket = Some(decoded(place)?);
    } else {
        authority(place, &mut url)?;
    }
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        match key {
            "db" => url.database = Some(database(value)?),
            "user" | "username" => url.username = Some(decoded(value)?),
            "pass" | "password" => url.password = Some(Secret::new(decoded(value)?)),
            // Clients of other languages write it; the version that is spoken here is the one that all
            // servers know.
            "protocol" => {}
            _ => return Err("its query has a key that is none of db, user and pass".to_owned()),
        }
    }
    Ok(url)
}

fn authority(place: &str, url: &mut CacheUrl) -> Result<(), String> {
    let (authority, path) = place.split_once('/').unwrap_or((place, ""));
    let address = match authority.rsplit_once('@') {
        Some((credentials, address)) => {
            let (user, password) = match credentials.split_once(':') {
                Some((user, password)) => (user, Some(password)),
                None => (credentials, None),
            };
            url.username = Some(decoded(user)?).filter(|user| !user.is_empty());
            let password = password.map(decoded).transpose()?;
            url.password = password.filter(|password| !password.is_empty()).map(Secret::new);
            address
        }
        None => authority,
    };
    if !address.is_empty() {
        let host = address::host_port(address, super::rules::REDIS_PORT);
        let host = host.map_err(|error| format!("its host is wrong ({error})"))?;
        url.host =
            Some(if host.host.contains(':') { format!("[{}]", host.host) } else { host.host.to_string() });
        let has_port = address
            .rsplit_once(':')
            .is_some_and(|(before, _)| !before.contains('[') || before.ends_with(']'));
        url.port = has_port.then_some(host.port);
    }
    if !path.is_empty() {
        url.database = Some(database(path)?);
    }
    Ok(())
}

fn database(text: &str) -> Result<u32, String> {
    let number = text.trim_end_matches('/').parse().ok().filter(|number| *number <= 65_535);
    number.ok_or_else(|| "its database is not a number".to_owned())
}

fn decoded(text: &str) -> Result<String, String> {
    let decoded = percent_decode_str(text).decode_utf8().map_err(|_| "it is not UTF-8".to_owned())?;
    if decoded.contains(char::is_control) {
        Err("it has control characters".to_owned())
    } else {
        Ok(decoded.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_as_other_clients_read_them() {
        let url = parse("rediss://us%40er:p%2Cw@redis.example:6380/3").ok().unwrap();
        assert_eq!(
            (url.host.as_deref(), url.port, url.database),
            (Some("redis.example"), Some(6380), Some(3))
        );
        assert_eq!((url.username.as_deref(), url.password.unwrap().expose()), (Some("us@er"), "p,w"));
        assert!(url.secure);
        let url = parse("redis://:pw@[::1]").ok().unwrap();
        assert_eq!((url.host.as_deref(), url.port, url.username), (Some("[::1]"), None, None));
        let url = parse("redis+unix:///run/redis.sock?db=2&pass=x").ok().unwrap();
        assert_eq!((url.socket.as_deref(), url.database), (Some("/run/redis.sock"), Some(2)));
        for bad in
            ["http://a", "redis://a/x", "redis://a:b:c", "unix://x", "redis://a?x=1", "redis://u:%ff@a"]
        {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
