use super::*;

fn rule(text: &str) -> AddressRule {
    text.parse().unwrap()
}

fn policy(allowed: &[&str], denied: &[&str]) -> AddressPolicy {
    let rules = |texts: &[&str]| texts.iter().map(|text| rule(text)).collect::<Vec<_>>();
    AddressPolicy::new(NEVER, rules(allowed), rules(denied))
}

fn permits(policy: &AddressPolicy, address: &str) -> bool {
    policy.permits(address.parse().unwrap())
}

#[test]
fn rules_are_read_as_people_write_them() {
    for (text, shown) in [
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("10.1.2.3/8", "10.0.0.0/8"),
        (" 192.0.2.7 ", "192.0.2.7/32"),
        ("192.0.2.7:5060", "192.0.2.7/32:5060"),
        ("10.0.0.0/8:5060-5070", "10.0.0.0/8:5060-5070"),
        ("fd00::/8", "fd00::/8"),
        ("fd00::1", "fd00::1/128"),
        ("[fd00::1]", "fd00::1/128"),
        ("[fd00::/8]:25", "[fd00::/8]:25"),
        ("[fd00::]/8:25", "[fd00::/8]:25"),
        ("fd00::/8:25", "[fd00::/8]:25"),
        ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("any", "any"),
        ("*:25", "any:25"),
        ("any:*", "any"),
    ] {
        assert_eq!(rule(text).to_string(), shown);
        assert_eq!(rule(shown), rule(text));
    }
    for bad in [
        "",
        "registrar.example.com",
        "10.0.0.0/33",
        "10.0.0:5060",
        "10.0.0.1:0",
        "10.0.0.1:",
        "[::1",
        "any:6-5",
    ] {
        let text = bad.parse::<AddressRule>().unwrap_err();
        assert!(text.contains(&format!("{bad:?}")) && text.contains("expected a network"), "{text}");
    }
}

#[test]
fn the_narrowest_rule_decides() {
    let policy = policy(
        &["203.0.113.0/24:5060", "10.96.1.0/24", "any:7000", "10.0.0.9:22"],
        &["any", "10.0.0.0/8", "10.96.1.7", "203.0.113.9", "10.0.0.9:22"],
    );
    for (address, permitted) in [
        ("203.0.113.1:5060", true),
        ("203.0.113.1:5061", false),
        ("203.0.113.9:5060", false),
        ("198.51.100.1:5060", false),
        ("198.51.100.1:7000", true),
        ("10.1.1.1:7000", false),
        ("10.96.1.6:5060", true),
        ("10.96.1.7:5060", false),
        ("10.0.0.9:22", false),
        ("[2001:db8::1]:5060", false),
        ("[2001:db8::1]:7000", true),
    ] {
        assert_eq!(permits(&policy, address), permitted, "{address}");
    }
}

#[test]
fn what_is_never_a_target_is_denied_by_default_in_all_spellings() {
    let policy = policy(&["any"], &["127.0.0.0/8"]);
    for denied in [
        "169.254.169.254",
        "[::ffff:169.254.169.254]",
        "[::169.254.169.254]",
        "[::ffff:0:169.254.169.254]",
        "[64:ff9b::169.254.169.254]",
        "[64:ff9b:1::1]",
        "[2002:a9fe:a9fe::1]",
        "[2001:db8::200:5efe:a9fe:a9fe]",
        "[2001:0:1:2::3]",
        "[fd00:ec2::254]",
        "[fe80::1]",
        "100.100.100.200",
        "0.0.0.0",
        "0.1.2.3",
        "[::]",
        "[::ffff:0.0.0.0]",
        "224.0.1.75",
        "[ff02::1]",
        "255.255.255.255",
        "240.0.0.1",
        "127.0.0.1",
        "127.255.0.1",
        "[::ffff:127.0.0.1]",
        "[::127.0.0.1]",
        "[64:ff9b::7f00:1]",
    ] {
        let address = format!("{denied}:5060");
        assert!(!permits(&policy, &address), "{address}");
    }
    for permitted in ["192.0.2.7", "10.0.0.1", "[2001:db8::1]", "[::1]", "[64:ff9b::c000:207]", "[fd00::1]"] {
        let address = format!("{permitted}:5060");
        assert!(permits(&policy, &address), "{address}");
    }
    assert!(AddressPolicy::default().permits("169.254.169.254:80".parse().unwrap()), "no rules");
}

#[test]
fn a_default_yields_to_a_rule_as_narrow_and_to_no_wider_one() {
    let by = |allowed: &[&str], address: &str| permits(&policy(allowed, &[]), address);
    assert!(by(&["169.254.0.0/16"], "169.254.1.1:5060"));
    assert!(!by(&["169.254.0.0/16"], "169.254.169.254:80"));
    assert!(by(&["169.254.169.254:80"], "169.254.169.254:80"));
    assert!(!by(&["169.254.169.254:80"], "169.254.169.254:81"));
    let everything = AddressPolicy::new(NEVER.iter().chain(LOOPBACK), [], []);
    for address in ["127.0.0.1:1", "[::1]:1", "[::]:1", "0.0.0.0:1", "[::ffff:127.0.0.1]:1"] {
        assert!(!permits(&everything, address), "{address}");
    }
}

#[test]
fn a_refusal_names_the_address_the_rule_and_why() {
    let text = |address: &str, denied: &[&str]| {
        policy(&[], denied).check(address.parse().unwrap()).unwrap_err().to_string()
    };
    assert_eq!(text("10.1.2.3:22", &["any:22"]), "10.1.2.3:22 is denied: it is in any:22");
    assert_eq!(
        text("169.254.1.2:5060", &[]),
        "169.254.1.2:5060 is denied: it is in 169.254.0.0/16 (link-local)"
    );
    assert_eq!(
        text("[64:ff9b::7f00:1]:5060", &["127.0.0.0/8"]),
        "[64:ff9b::7f00:1]:5060 is denied: it leads to 127.0.0.1, which is in 127.0.0.0/8"
    );
}
