//! The flags as they are read.

use clap::Parser;

use super::{super::Mode, listen::listen_address, *};

#[derive(Parser)]
struct Command {
    #[command(flatten)]
    args: RequesterArgs,
}

fn parse(flags: &[&str]) -> Result<RequesterArgs, clap::Error> {
    Command::try_parse_from([&["requester"], flags].concat()).map(|command| command.args)
}

#[test]
fn defaults_and_flags() {
    let args = parse(&[]).unwrap();
    assert_eq!((args.listen.to_string().as_str(), args.mode), ("127.0.0.1:51909", Mode::Direct));
    let args =
        parse(&["--mode", "proxied", "--contact", "[2001:db8::1]:5080", "--sip-port", "5090"]).unwrap();
    assert_eq!((args.mode, args.sip_port), (Mode::Proxied, 5090));
    assert_eq!((args.keep_alive, parse(&["--keep-alive", "30"]).unwrap().keep_alive), (0, 30));
    assert_eq!(args.responses_from, ResponseOrigin::Registrar);
    let anywhere = parse(&["--responses-from", "anywhere"]).unwrap();
    assert_eq!(anywhere.responses_from, ResponseOrigin::Anywhere);
    for bad in ["-1", "3601", "soon"] {
        let text = parse(&["--keep-alive", bad]).unwrap_err().to_string();
        assert!(text.contains("--keep-alive") && text.contains(bad), "{text}");
    }
    assert_eq!(args.contact.unwrap().to_string(), "[2001:db8::1]:5080");
    assert_eq!(parse(&["--contact", "edge.example.com"]).unwrap().contact.unwrap().port, None);
}

#[test]
fn the_trace_is_another_action_and_goes_with_no_flag_of_serving() {
    assert!(!parse(&[]).unwrap().trace && parse(&["--trace"]).unwrap().trace);
    let args = parse(&["trace", "--user", "alice", "--registrar", "sip.example.com", "--follow"]).unwrap();
    let Some(RequesterAction::Trace(trace)) = args.action else { panic!("{args:?}") };
    assert_eq!((trace.user.as_deref(), trace.follow), (Some("alice"), true));
    assert_eq!(trace.url, "http://127.0.0.1:8080");
    assert!(parse(&["--mode", "proxied", "trace"]).is_err());
}

#[tokio::test]
async fn within_another_program_there_is_no_trace() {
    for flags in ["--trace", "trace"] {
        let refused = prepare(flags, "127.0.0.1:0".parse().unwrap()).await.unwrap_err();
        assert!(refused.contains("as a process of its own"), "{refused}");
    }
}

#[test]
fn an_address_to_listen_on_is_read_as_people_write_it() {
    for (text, read) in [
        ("0.0.0.0:51909", "0.0.0.0:51909"),
        ("", "127.0.0.1:51909"),
        (":5000", "0.0.0.0:5000"),
        ("*:5000", "0.0.0.0:5000"),
        ("localhost:5000", "127.0.0.1:5000"),
        ("10.0.0.1", "10.0.0.1:51909"),
        ("::1", "[::1]:51909"),
        ("[::]:5000", "[::]:5000"),
    ] {
        assert_eq!(listen_address(text).map(|read| read.to_string()), Ok(read.to_owned()));
    }
    for bad in ["registrar.test:5060", "10.0.0.1:99999", ":"] {
        assert!(listen_address(bad).unwrap_err().contains("127.0.0.1:51909"), "{bad:?}");
    }
}

#[test]
fn the_door_and_its_rules_are_read() {
    let args = parse(&[
        "--deny-target",
        "10.0.0.0/8,any:25",
        "--allow-target",
        "10.0.0.9",
        "--allow-header",
        "Path",
    ]);
    let args = args.unwrap();
    assert_eq!((args.deny_target.len(), args.allow_target.len(), args.allow_header.len()), (2, 1, 1));
    for (flags, named) in [
        (&["--tls-cert", "c"][..], "--tls-key"),
        (&["--client-ca", "c"], "--tls-cert"),
        (&["--sip-tls-cert", "c"], "--sip-tls-key"),
        (&["--sip-tls-key", "c"], "--sip-tls-cert"),
        (&["--sip-tls-ca", "ca.pem"], "for all domains it is --ca-file"),
        (&["--deny-target", "registrar.test"], "names are no rules"),
        (&["--allow-method", "INVITE"], "INVITE transactions"),
        (&["--allow-header", "a b"], "no name of a header field"),
    ] {
        let text = parse(flags).unwrap_err().to_string();
        assert!(text.contains(named), "{text}");
    }
}

#[test]
fn any_method_is_sent_unless_some_are_named() {
    let methods = |flags: &[&str]| rules(&parse(flags).unwrap()).to_string();
    assert_eq!(methods(&["--listen", "0.0.0.0:1"]), "any");
    let flags = ["--listen", "0.0.0.0:1", "--allow-method", "register,MESSAGE"];
    assert_eq!(methods(&flags), "REGISTER, MESSAGE");
}

#[test]
fn a_contact_that_makes_no_sense_is_refused() {
    for bad in ["", ":5060", "a:0", "a:b", "a b", "2001:db8::1", "a:70000", "a;x=y"] {
        assert!(parse(&["--contact", bad]).is_err(), "{bad:?}");
    }
}
