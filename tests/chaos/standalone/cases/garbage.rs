//! Garbage that none should send: to the registry and the Requester in the place of a dependency, to their
//! own ports, in trunks; and a Redis that cannot or will not.

use super::{ANOTHER_REQUESTER, API, CACHE, REQUESTER, SILENT_CACHE, scenario, secs, step};
use crate::fakes::{Grpc, Kind, Resp, Sip};
use crate::pokes;
use crate::standalone::fault::Fault::{DropClientsOfRedis, Fake, Poke, Redis};
use crate::standalone::fault::Wire;
use crate::standalone::{Says, Scenario, Special, Step};

/// `cache`, reported as not working from the beginning: what was reported stays so.
const STILL: Says = Says::Down("cache", secs(0));

fn fake(wire: Wire, kind: Kind, lasts: u64, says: &[Says]) -> Step {
    step(vec![Fake(wire, kind)], lasts, says)
}

pub fn all() -> Vec<Scenario> {
    let api = |kind, lasts, says: &[_]| fake(Wire::Api, kind, lasts, says);
    let requester = |kind, lasts, says: &[_]| fake(Wire::Requester, kind, lasts, says);
    let redis = |kind, lasts, says: &[_]| fake(Wire::Redis, kind, lasts, says);
    let sip = |kind, lasts| fake(Wire::Sip, Kind::Sip(kind), lasts, &[]);
    let commands = |begin, end, lasts, says: &[_]| step(vec![Redis(begin, end)], lasts, says);
    let poke = |poke, lasts| step(vec![Poke(poke)], lasts, &[]);
    let special = |name: &str, special| Scenario {
        special: Some(special),
        ..scenario(name, Vec::new(), 45).kept().quick()
    };
    vec![
        scenario(
            "garbage from the api",
            vec![
                api(Kind::Noise, 8, &[API]),
                api(Kind::EndlessNoise, 8, &[API]),
                api(Kind::Web, 8, &[API]),
                api(Kind::Grpc(Grpc::Garbage), 8, &[API]),
                api(Kind::Grpc(Grpc::Nested), 8, &[API]),
            ],
            20,
        )
        .kept(),
        // The message itself, what of it is on its way, and what a buffer that doubles leaves behind.
        scenario("a giant list from the api", vec![api(Kind::Grpc(Grpc::GiantList), 8, &[])], 20)
            .kept()
            .peak(260),
        scenario("an endless list from the api", vec![api(Kind::Grpc(Grpc::Endless), 8, &[API])], 20)
            .kept()
            .peak(300),
        scenario(
            "garbage from the requester",
            vec![
                requester(Kind::Noise, 15, &[ANOTHER_REQUESTER]),
                requester(Kind::EndlessNoise, 6, &[REQUESTER]),
                requester(Kind::Web, 6, &[REQUESTER]),
                requester(Kind::Grpc(Grpc::Garbage), 6, &[]),
                requester(Kind::Grpc(Grpc::Nested), 6, &[]),
            ],
            90,
        ),
        scenario(
            "giant answers from the requester",
            vec![requester(Kind::Grpc(Grpc::Giant), 6, &[]), requester(Kind::Grpc(Grpc::Endless), 6, &[])],
            90,
        ),
        scenario("absurd answers from the requester", vec![requester(Kind::Grpc(Grpc::Absurd), 8, &[])], 120)
            .peak(160),
        scenario(
            "garbage from redis",
            vec![
                redis(Kind::Noise, 14, &[CACHE]),
                redis(Kind::EndlessNoise, 8, &[STILL]),
                redis(Kind::Web, 8, &[]),
                redis(Kind::Resp(Resp::BadLengths), 8, &[]),
                redis(Kind::Resp(Resp::Nested), 8, &[]),
                redis(Kind::Resp(Resp::GiantError), 8, &[]),
                redis(Kind::Resp(Resp::Agrees), 8, &[]),
            ],
            60,
        )
        .kept(),
        scenario(
            "giant replies from redis",
            vec![
                redis(Kind::Resp(Resp::GiantArray), 20, &[SILENT_CACHE]),
                redis(Kind::Resp(Resp::GiantBulk), 10, &[]),
            ],
            60,
        )
        .kept()
        .peak(300),
        scenario(
            "garbage from the registrar",
            vec![sip(Sip::Garbage, 6), sip(Sip::WrongCallId, 6), sip(Sip::WrongCseq, 6), sip(Sip::Broken, 6)],
            150,
        ),
        scenario("a flood from the registrar", vec![sip(Sip::Flood, 8)], 120),
        scenario(
            "garbage for our own ports",
            vec![
                poke(pokes::Poke::Noise, 6),
                poke(pokes::Poke::GiantHeaders, 6),
                poke(pokes::Poke::Datagrams, 6),
            ],
            30,
        )
        .kept(),
        scenario(
            "crowds at our own ports",
            vec![poke(pokes::Poke::Idle, 6), poke(pokes::Poke::SlowLoris, 10)],
            30,
        )
        .kept(),
        scenario(
            "redis is full",
            vec![
                commands(&["CONFIG SET maxmemory 1"], &["CONFIG SET maxmemory 0"], 14, &[CACHE]),
                commands(
                    &["CONFIG SET maxmemory-policy allkeys-random", "CONFIG SET maxmemory 900kb"],
                    &["CONFIG SET maxmemory 0", "CONFIG SET maxmemory-policy noeviction"],
                    8,
                    &[],
                ),
            ],
            45,
        )
        .kept()
        .quick(),
        scenario(
            "redis will not",
            vec![
                commands(&["REPLICAOF 127.0.0.1 1"], &["REPLICAOF NO ONE"], 14, &[CACHE]),
                commands(&["CLIENT PAUSE 9000 ALL"], &[], 10, &[]),
                commands(&["FLUSHALL"], &[], 3, &[]),
                step(vec![DropClientsOfRedis], 3, &[]),
            ],
            45,
        )
        .kept(),
        special("another password of redis", Special::PasswordOfRedis),
        special("malformed trunks", Special::MalformedTrunks),
    ]
}
