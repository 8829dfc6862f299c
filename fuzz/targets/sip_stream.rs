//! SIP over TCP: the same bytes are the same messages, however they are cut.

use routr_sip::message::{MAX_MESSAGE, Message, StreamParser};

use super::support::Choices;

pub fn run(data: &[u8]) {
    let whole = parse(std::iter::once(data));
    let bytes = parse(data.chunks(1));
    let mut choices = Choices::of(data);
    let mut rest = data;
    let slices = parse(std::iter::from_fn(|| {
        let (slice, others) = rest.split_at((1 + choices.below(40)).min(rest.len()));
        rest = others;
        (!slice.is_empty()).then_some(slice)
    }));
    assert_eq!(slices, bytes, "slices make no difference");
    if data.len() <= MAX_MESSAGE {
        assert_eq!(whole, bytes, "slices make no difference");
    }
    for message in whole.0.iter().flatten() {
        super::sip_message::assert_survives(message);
    }
}

/// Every message, `None` for one that was passed over, and whether the stream broke.
fn parse<'a>(slices: impl Iterator<Item = &'a [u8]>) -> (Vec<Option<Message>>, bool) {
    let mut parser = StreamParser::new();
    let mut all = Vec::new();
    for slice in slices {
        parser.push(slice);
        loop {
            match parser.next() {
                Ok(Some(message)) => all.push(Some(message)),
                Ok(None) => break,
                Err(_) if parser.is_broken() => return (all, true),
                Err(_) => all.push(None),
            }
        }
    }
    (all, false)
}
