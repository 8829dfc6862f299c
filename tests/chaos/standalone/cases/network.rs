//! Wires that are cut, held, slow and lossy; registrars that are silent.

use std::time::Duration;

use super::{ANOTHER_REQUESTER, API, CACHE, REQUESTER, SILENT_CACHE, scenario, step};
use crate::datagrams::Weather;
use crate::link::Mode;
use crate::standalone::fault::Fault::{Net, Udp};
use crate::standalone::fault::Wire;
use crate::standalone::{Scenario, Special};

pub fn all() -> Vec<Scenario> {
    let ms = Duration::from_millis;
    let api = |mode, lasts, says: &[_]| step(vec![Net(Wire::Api, mode)], lasts, says);
    let requester = |mode, lasts, says: &[_]| step(vec![Net(Wire::Requester, mode)], lasts, says);
    let redis = |mode, lasts, says: &[_]| step(vec![Net(Wire::Redis, mode)], lasts, says);
    let sip = |mode, lasts| step(vec![Net(Wire::Sip, mode)], lasts, &[]);
    let udp = |lost, doubled, late, lasts| step(vec![Udp(Weather { lost, doubled, late })], lasts, &[]);
    let steps_of_api = vec![
        api(Mode::Cut, 8, &[API]),
        api(Mode::HangUp, 8, &[API]),
        api(Mode::Hold, 10, &[API]),
        api(Mode::Delay(ms(300)), 6, &[]),
        api(Mode::Delay(ms(1_500)), 10, &[API]),
        // Some 150 KB within the 2 s that a listing may take.
        api(Mode::Throttle(20_000), 10, &[API]),
        api(Mode::CutAfter(20_000), 10, &[API]),
    ];
    let every = vec![
        Net(Wire::Api, Mode::Cut),
        Net(Wire::Requester, Mode::Cut),
        Net(Wire::Redis, Mode::Cut),
        Net(Wire::Sip, Mode::Cut),
    ];
    vec![
        scenario("wire to the api", steps_of_api, 20).kept(),
        scenario("cut the wire to the requester", vec![requester(Mode::Cut, 7, &[REQUESTER])], 45).quick(),
        scenario("the requester hangs up", vec![requester(Mode::HangUp, 15, &[ANOTHER_REQUESTER])], 45),
        scenario("hold the wire to the requester", vec![requester(Mode::Hold, 8, &[])], 60),
        scenario(
            "slow wire to the requester",
            vec![requester(Mode::Delay(ms(400)), 22, &[]), requester(Mode::Throttle(40_000), 10, &[])],
            60,
        ),
        scenario("resets of the requester", vec![requester(Mode::CutAfter(20_000), 15, &[])], 60),
        scenario(
            "wire to redis",
            vec![
                redis(Mode::Cut, 14, &[CACHE]),
                redis(Mode::HangUp, 8, &[]),
                redis(Mode::Hold, 22, &[SILENT_CACHE]),
                redis(Mode::Delay(ms(300)), 6, &[]),
                redis(Mode::Throttle(5_000), 10, &[]),
                redis(Mode::CutAfter(2_000), 8, &[]),
            ],
            60,
        )
        .kept(),
        scenario(
            "wire to the registrar, tcp",
            vec![
                sip(Mode::Cut, 4),
                sip(Mode::HangUp, 4),
                sip(Mode::Hold, 8),
                sip(Mode::Delay(ms(700)), 8),
                sip(Mode::CutAfter(10_000), 8),
            ],
            90,
        ),
        scenario(
            "wire to the registrar, udp",
            vec![
                udp(30, 0, ms(0), 12),
                udp(0, 60, ms(150), 12),
                udp(20, 20, ms(400), 12),
                udp(100, 0, ms(0), 6),
            ],
            90,
        ),
        scenario("cut all wires", vec![step(every, 8, &[API, REQUESTER])], 90),
        Scenario {
            special: Some(Special::SilentRegistrars),
            ..scenario("silent registrars", Vec::new(), 60).kept()
        },
    ]
}
