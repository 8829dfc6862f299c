//! Number of requests that the Requester takes at a time.

use super::{super::Mode, peer::Peer, setup::*};
use crate::proto::{
    requester_info::{GetRequest, GetResponse, requester_info_client::RequesterInfoClient},
    sipmessage::ResponseType,
};

async fn info(service: &Service) -> GetResponse {
    RequesterInfoClient::new(service.channel.clone()).get(GetRequest {}).await.unwrap().into_inner()
}

#[tokio::test]
async fn the_capacity_and_the_process_are_said() {
    let (one, other) = (start(Mode::Direct).await, start(Mode::Direct).await);
    let said = info(&one).await;
    assert_eq!(said.capacity, super::super::DEFAULT_CAPACITY);
    assert!(said.instance.len() >= 16, "{said:?}");
    assert_eq!(info(&one).await, said);
    assert_ne!(info(&other).await.instance, said.instance);
}

#[tokio::test]
async fn a_silent_target_has_half_of_the_places_at_most_and_the_others_theirs() {
    let silent = Peer::udp(|_, _| Vec::<String>::new()).await;
    let good = Peer::udp(|raw, _| vec![raw.ok()]).await;
    let options = options(Mode::Direct);
    let client = routr_sip::client::ClientOptions { timers: short(), ..options.client() };
    let service = start_client(options, client, 4).await;
    let target = silent.address.to_string();
    let in_flight = [1, 2].map(|_| {
        let (mut client, target) = (service.client.clone(), target.clone());
        tokio::spawn(async move { client.send_message(register(&target)).await })
    });
    silent.wait_for(2).await;
    let status = service.refused(register(&target)).await;
    assert_eq!(status.code(), tonic::Code::ResourceExhausted, "{status:?}");
    let said = format!("2 requests to \"{target}\"");
    assert!(status.message().contains(&said), "{status:?}");
    assert_eq!(response_type(&service.send(register(&good.address.to_string())).await), ResponseType::Ok);
    for call in in_flight {
        let reply = call.await.unwrap().unwrap().into_inner().message.unwrap();
        assert_eq!(response_type(&reply), ResponseType::RequestTimeout);
    }
    // The places are free again.
    assert_eq!(response_type(&service.send(register(&target)).await), ResponseType::RequestTimeout);
}

#[tokio::test]
async fn a_connection_carries_more_calls_than_http2_allows_by_default() {
    let silent = Peer::udp(|_, _| Vec::<String>::new()).await;
    let service = start(Mode::Direct).await;
    let target = silent.address.to_string();
    let calls: Vec<_> = (0..300)
        .map(|_| {
            let (mut client, target) = (service.client.clone(), target.clone());
            tokio::spawn(async move { client.send_message(register(&target)).await })
        })
        .collect();
    silent.wait_for(300).await;
    calls.iter().for_each(tokio::task::JoinHandle::abort);
}
