//! A cluster that moves the keys of a registry from one node to another. While that lasts, each key is on one
//! of the two: the old node serves those that it still has, and says of any other that the new node is to be
//! asked (ASK), once, with ASKING before the command.
//!
//! A pipeline is split into units that have one key each, because a transaction over keys of both nodes is
//! refused.

use redis::{Cmd, Pipeline, RedisError, ServerError, Value};

use super::servers;
use routr_types::host::HostPort;

/// Most times that a unit follows an ASK: to the new node, and once more where the keys have gone on from
/// there meanwhile.
const MAX_ASKS: u32 = 2;

/// A pipeline in parts.
pub(super) struct Units {
    units: Vec<Unit>,
    /// Each part is a transaction.
    atomic: bool,
}

/// Commands with one key.
struct Unit {
    commands: Vec<Cmd>,
    at: At,
    asks: u32,
}

/// Progress of a unit.
enum At {
    /// Waiting to be sent to the node that the slot belongs to.
    Home,
    /// Waiting to be sent to the node that it was referred to.
    Asked(HostPort),
    /// Done, with these responses.
    Done(Vec<Value>),
}

impl Units {
    /// The parts of a pipeline. Where it is one transaction (MULTI … EXEC), each part becomes one.
    pub(super) fn of(pipeline: &Pipeline) -> Self {
        let mut this = Self { units: Vec::new(), atomic: false };
        for command in pipeline.cmd_iter() {
            match argument(command, 0) {
                Some(b"MULTI") => this.atomic = true,
                Some(b"EXEC") => {}
                _ => this.add(command.clone()),
            }
        }
        this
    }

    fn add(&mut self, command: Cmd) {
        match self.units.last_mut() {
            Some(last)
                if self.atomic
                    && last.commands.first().and_then(|first| argument(first, 1))
                        == argument(&command, 1) =>
            {
                last.commands.push(command);
            }
            _ => self.units.push(Unit { commands: vec![command], at: At::Home, asks: 0 }),
        }
    }

    /// Returns the commands for a node; `None`: the one that the slot belongs to.
    pub(super) fn pipeline(&self, node: Option<&HostPort>) -> Pipeline {
        let mut pipeline = redis::pipe();
        pipeline.ignore_errors();
        for unit in self.units.iter().filter(|unit| unit.is_for(node)) {
            if node.is_some() {
                pipeline.cmd("ASKING");
            }
            if self.atomic {
                pipeline.cmd("MULTI");
            }
            for command in &unit.commands {
                pipeline.add_command(command.clone());
            }
            if self.atomic {
                pipeline.cmd("EXEC");
            }
        }
        pipeline
    }

    /// Notes what a node responded to [`Units::pipeline`].
    ///
    /// # Errors
    /// The first error that is no ASK.
    pub(super) fn note(&mut self, node: Option<&HostPort>, said: Value) -> Result<(), RedisError> {
        let Value::Array(said) = said else { return said.extract_error().map(drop) };
        let mut said = said.into_iter();
        let frame = usize::from(node.is_some()) + usize::from(self.atomic);
        for unit in self.units.iter_mut().filter(|unit| unit.is_for(node)) {
            let count = frame + unit.commands.len() + usize::from(self.atomic);
            let responses: Vec<Value> = said.by_ref().take(count).collect();
            unit.at = match error(&responses) {
                None => At::Done(responses.into_iter().skip(frame).take(unit.commands.len()).collect()),
                Some(error) => match asked_of(error).filter(|_| unit.asks < MAX_ASKS) {
                    Some(other) => At::Asked(other),
                    None => return Err(error.clone().into()),
                },
            };
            unit.asks += 1;
        }
        Ok(())
    }

    /// A node that some part was referred to.
    pub(super) fn asked(&self) -> Option<HostPort> {
        self.units.iter().find_map(|unit| match &unit.at {
            At::Asked(node) => Some(node.clone()),
            At::Home | At::Done(_) => None,
        })
    }

    /// The responses to the commands, without MULTI and EXEC; of a transaction, that each was queued.
    pub(super) fn values(self) -> Value {
        let values = self.units.into_iter().flat_map(|unit| match unit.at {
            At::Done(values) => values,
            At::Home | At::Asked(_) => Vec::new(),
        });
        Value::Array(values.collect())
    }
}

impl Unit {
    fn is_for(&self, node: Option<&HostPort>) -> bool {
        match (&self.at, node) {
            (At::Home, None) => true,
            (At::Asked(asked), Some(node)) => asked == node,
            _ => false,
        }
    }
}

/// The first error among responses, or inside that to EXEC.
fn error(responses: &[Value]) -> Option<&ServerError> {
    responses.iter().find_map(|value| match value {
        Value::ServerError(error) => Some(error),
        Value::Array(values) => values.iter().find_map(|value| match value {
            Value::ServerError(error) => Some(error),
            _ => None,
        }),
        _ => None,
    })
}

fn asked_of(error: &ServerError) -> Option<HostPort> {
    (error.code() == "ASK").then(|| servers::moved(error.details().unwrap_or_default())).flatten()
}

fn argument(command: &Cmd, index: usize) -> Option<&[u8]> {
    command.args_iter().nth(index).and_then(|argument| match argument {
        redis::Arg::Simple(bytes) => Some(bytes),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server_error(wire: &[u8]) -> Value {
        redis::parse_redis_value(wire).unwrap()
    }

    fn sent(pipeline: &Pipeline) -> Vec<String> {
        let words = |command: &Cmd| {
            let words = (0..).map_while(|index| argument(command, index));
            words.map(String::from_utf8_lossy).collect::<Vec<_>>().join(" ")
        };
        pipeline.cmd_iter().map(words).collect()
    }

    #[test]
    fn what_a_node_no_longer_has_goes_to_the_other_and_the_responses_keep_their_order() {
        let mut pipeline = redis::pipe();
        pipeline.cmd("HLEN").arg("a").cmd("HLEN").arg("b").cmd("HLEN").arg("c");
        let mut units = Units::of(&pipeline);
        assert_eq!(sent(&units.pipeline(None)), ["HLEN a", "HLEN b", "HLEN c"]);
        let ask = || server_error(b"-ASK 7 10.0.0.2:6379\r\n");
        units.note(None, Value::Array(vec![ask(), Value::Int(2), ask()])).unwrap();
        let other = HostPort::new("10.0.0.2", 6379);
        assert_eq!(units.asked().as_ref(), Some(&other));
        assert_eq!(sent(&units.pipeline(Some(&other))), ["ASKING", "HLEN a", "ASKING", "HLEN c"]);
        let said = vec![Value::Okay, Value::Int(1), Value::Okay, Value::Int(3)];
        units.note(Some(&other), Value::Array(said)).unwrap();
        assert_eq!(units.asked(), None);
        assert_eq!(units.values(), Value::Array(vec![Value::Int(1), Value::Int(2), Value::Int(3)]));
    }

    #[test]
    fn a_transaction_becomes_one_for_each_key() {
        let mut pipeline = redis::pipe();
        pipeline.cmd("MULTI");
        for key in ["a", "b"] {
            pipeline.cmd("HSET").arg(key).arg("f").arg("v").cmd("EXPIRE").arg(key).arg(9);
        }
        pipeline.cmd("EXEC");
        let mut units = Units::of(&pipeline);
        let one = |key| {
            ["MULTI".to_owned(), format!("HSET {key} f v"), format!("EXPIRE {key} 9"), "EXEC".to_owned()]
        };
        assert_eq!(sent(&units.pipeline(None)), [one("a"), one("b")].concat());
        let queued = || Value::SimpleString("QUEUED".to_owned());
        let done = || vec![Value::Okay, queued(), queued(), Value::Array(vec![Value::Int(1), Value::Int(1)])];
        let ask = || server_error(b"-ASK 7 10.0.0.2:6379\r\n");
        let aborted = vec![Value::Okay, ask(), ask(), server_error(b"-EXECABORT discarded\r\n")];
        units.note(None, Value::Array([done(), aborted].concat())).unwrap();
        let other = units.asked().unwrap();
        assert_eq!(
            sent(&units.pipeline(Some(&other))),
            [vec!["ASKING".to_owned()], one("b").to_vec()].concat()
        );
        // An error inside the response to EXEC is one, too.
        let failed = Value::Array(vec![server_error(b"-OOM full\r\n"), Value::Int(0)]);
        let said = vec![Value::Okay, Value::Okay, queued(), queued(), failed];
        assert_eq!(units.note(Some(&other), Value::Array(said)).unwrap_err().code(), Some("OOM"));
    }

    #[test]
    fn an_ask_without_end_ends() {
        let mut pipeline = redis::pipe();
        pipeline.cmd("GET").arg("a");
        let mut units = Units::of(&pipeline);
        let ask = || server_error(b"-ASK 7 10.0.0.2:6379\r\n");
        let mut said = vec![ask()];
        let mut node = None;
        let error = loop {
            if let Err(error) = units.note(node.as_ref(), Value::Array(said)) {
                break error;
            }
            node = units.asked();
            said = vec![Value::Okay, ask()];
        };
        assert_eq!(error.code(), Some("ASK"));
    }
}
