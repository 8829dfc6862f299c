use super::*;

const AOR: &str = "pbx@sip.net";

/// One REGISTER; the branch follows from Call-ID and CSeq, so that equal ones are retransmissions.
struct Register {
    call_id: &'static str,
    cseq: u32,
    branch: &'static str,
    contacts: &'static str,
    expires: Option<u32>,
    at: u64,
}

const FIRST: Register = Register {
    call_id: "call",
    cseq: 1,
    branch: "b1",
    contacts: "<sip:a@10.0.0.1>",
    expires: Some(600),
    at: 0,
};

fn send(table: &mut Bindings, register: &Register) -> Result<Outcome, Refusal> {
    let contacts = match register.contacts {
        "*" => Contacts::All,
        list => Contacts::These(NameAddr::parse_list(list).unwrap()),
    };
    table.update(&Update {
        aor: AOR,
        call_id: register.call_id,
        cseq: register.cseq,
        branch: register.branch,
        contacts,
        expires: register.expires,
        bounds: ExpiryBounds { min: 60, default: 300, max: 3600 },
        now: Duration::from_secs(register.at),
    })
}

/// The contacts after it, each with what was granted.
fn done(table: &mut Bindings, register: &Register) -> Vec<(String, u32)> {
    match send(table, register) {
        Ok(Outcome::Done(bindings)) => bindings.into_iter().map(|b| (b.contact, b.granted_s)).collect(),
        other => panic!("{other:?}"),
    }
}

fn table() -> Bindings {
    let mut table = Bindings::new(100);
    assert_eq!(done(&mut table, &FIRST), [("sip:a@10.0.0.1".to_owned(), 600)]);
    table
}

#[test]
fn a_refresh_replaces_and_another_contact_is_added() {
    let mut table = table();
    let refresh = Register { cseq: 2, branch: "b2", expires: Some(700), at: 300, ..FIRST };
    assert_eq!(done(&mut table, &refresh), [("sip:a@10.0.0.1".to_owned(), 700)]);
    let other = Register { call_id: "other", contacts: "<sip:a@10.0.0.2>;expires=90", at: 300, ..FIRST };
    assert_eq!(
        done(&mut table, &other),
        [("sip:a@10.0.0.1".to_owned(), 700), ("sip:a@10.0.0.2".to_owned(), 90)]
    );
    let listed = Register { call_id: "third", contacts: "", at: 391, ..FIRST };
    assert_eq!(done(&mut table, &listed).len(), 1, "the short one has expired");
    let snapshot = table.snapshot(Duration::from_secs(391));
    let binding = &snapshot[AOR][0];
    assert_eq!((binding.call_id.as_str(), binding.cseq), ("call", 2));
    assert_eq!(binding.seconds_left(Duration::from_millis(999_500)), 1);
    assert!(table.snapshot(Duration::from_secs(1000)).is_empty());
}

#[test]
fn the_cseq_of_a_call_must_rise() {
    let mut table = table();
    done(&mut table, &Register { cseq: 5, branch: "b5", ..FIRST });
    for cseq in [5, 4, 0] {
        let late = Register { cseq, branch: "late", expires: Some(900), ..FIRST };
        assert_eq!(send(&mut table, &late), Err(Refusal::CseqNotRising), "{cseq}");
        let late = Register { contacts: "*", expires: Some(0), ..late };
        assert_eq!(send(&mut table, &late), Err(Refusal::CseqNotRising), "{cseq}");
    }
    let repeated = Register { cseq: 5, branch: "b5", ..FIRST };
    assert!(
        matches!(send(&mut table, &repeated), Ok(Outcome::Repeated(bindings)) if bindings[0].granted_s == 600)
    );
    // Another Call-ID starts again (RFC 3261 §10.3 step 7).
    done(&mut table, &Register { call_id: "another", cseq: 0, branch: "x", ..FIRST });
}

#[test]
fn one_refused_contact_refuses_all() {
    let mut table = table();
    let mixed = "<sip:b@10.0.0.9>, <sip:a@10.0.0.1>;expires=5";
    let mixed = Register { cseq: 2, branch: "b2", contacts: mixed, ..FIRST };
    assert_eq!(send(&mut table, &mixed), Err(Refusal::TooBrief(60)));
    assert_eq!(done(&mut table, &Register { call_id: "list", contacts: "", ..FIRST }).len(), 1);
}

#[test]
fn expiry_is_bounded() {
    let mut table = Bindings::new(100);
    let granted = |table: &mut Bindings, contacts, expires, cseq| {
        let register = Register { contacts, expires, cseq, branch: "b", ..FIRST };
        done(table, &register).first().map(|(_, granted)| *granted)
    };
    assert_eq!(granted(&mut table, "<sip:a@h>", None, 1), Some(300), "default");
    assert_eq!(granted(&mut table, "<sip:a@h>", Some(99_999), 2), Some(3600), "at most");
    assert_eq!(
        granted(&mut table, "<sip:a@h>;expires=99999999999999", Some(60), 3),
        Some(3600),
        "its own first"
    );
    assert_eq!(granted(&mut table, "<sip:a@h>;expires=soon", Some(60), 4), Some(3600), "malformed is 3600");
    assert_eq!(granted(&mut table, "<sip:a@h>;expires=60", Some(0), 5), Some(60), "just enough");
    let brief = Register { cseq: 6, expires: Some(59), contacts: "<sip:a@h>", branch: "b6", ..FIRST };
    assert_eq!(send(&mut table, &brief), Err(Refusal::TooBrief(60)));
}

#[test]
fn expires_zero_removes_one_and_a_wildcard_all() {
    let mut table = table();
    done(&mut table, &Register { call_id: "other", contacts: "<sip:b@10.0.0.2>", ..FIRST });
    let gone = Register { cseq: 2, branch: "b2", expires: Some(0), ..FIRST };
    assert_eq!(done(&mut table, &gone), [("sip:b@10.0.0.2".to_owned(), 600)]);
    let wildcard = Register { call_id: "w", contacts: "*", expires: Some(600), ..FIRST };
    assert_eq!(send(&mut table, &wildcard), Err(Refusal::BadWildcard));
    assert_eq!(send(&mut table, &Register { expires: None, ..wildcard }), Err(Refusal::BadWildcard));
    assert_eq!(done(&mut table, &Register { expires: Some(0), ..wildcard }), []);
    assert!(table.snapshot(Duration::ZERO).is_empty());
    assert_eq!(table.count, 0);
}

#[test]
fn equal_contacts_are_one_binding() {
    let mut table = table();
    let again = "\"Me\" <SIP:a@10.0.0.1>;q=0.5";
    let again = Register { cseq: 2, branch: "b2", contacts: again, ..FIRST };
    assert_eq!(done(&mut table, &again).len(), 1);
    let port = Register { cseq: 3, branch: "b3", contacts: "<sip:a@10.0.0.1:5060>", ..FIRST };
    assert_eq!(done(&mut table, &port).len(), 2, "RFC 3261 §19.1.4: a port that is left out is not 5060");
}

#[test]
fn the_table_is_bounded_and_expired_bindings_make_room() {
    let mut table = Bindings::new(1);
    done(&mut table, &FIRST);
    let another = |at| Register { call_id: "c2", contacts: "<sip:b@10.0.0.2>", at, ..FIRST };
    assert_eq!(send(&mut table, &another(1)), Err(Refusal::Full));
    assert_eq!(done(&mut table, &another(601)).len(), 1);
}
