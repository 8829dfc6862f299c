//! A wire to the API server of Kubernetes that speaks HTTP: requests can be refused, held or delayed, and all
//! are remembered.

use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response, StatusCode, header};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use kube::client::ClientBuilder;
use kube::{Client, Config};
use tokio::net::TcpListener;
use tokio::time::sleep;
use tokio_util::sync::{CancellationToken, DropGuard};
use tower::service_fn;

use crate::support::control_plane::ControlPlane;

/// Fate of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Refused with this status code and this `Retry-After`, in plain text as priority and fairness does.
    Status(u16, Option<&'static str>),
    /// It arrives so much later.
    Delay(Duration),
    /// It never arrives.
    Silence,
}

/// A request that came by.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: String,
    pub path: String,
    pub watch: bool,
    pub agent: String,
    pub fault: Option<Fault>,
}

type Rule = Box<dyn FnMut(&Seen) -> Option<Fault> + Send>;

/// The wire. It ends when it is dropped.
pub struct KubeProxy {
    pub port: u16,
    rule: Arc<Mutex<Rule>>,
    seen: Arc<Mutex<Vec<Seen>>>,
    _end: DropGuard,
}

impl KubeProxy {
    /// Passes everything on.
    pub async fn start(plane: &ControlPlane) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let acceptor = plane.acceptor();
        let none: Rule = Box::new(|_| None);
        let (rule, seen) = (Arc::new(Mutex::new(none)), Arc::<Mutex<Vec<Seen>>>::default());
        let upstream = upstream(plane).await;
        let router = {
            let (rule, seen) = (rule.clone(), seen.clone());
            Router::new().fallback_service(service_fn(move |request| {
                let (upstream, rule, seen) = (upstream.clone(), rule.clone(), seen.clone());
                async move { Ok::<_, Infallible>(pass(request, upstream, &rule, &seen).await) }
            }))
        };
        let end = CancellationToken::new();
        let ended = end.clone();
        tokio::spawn(end.clone().run_until_cancelled_owned(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, router, ended) = (acceptor.clone(), router.clone(), ended.clone());
                tokio::spawn(ended.run_until_cancelled_owned(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let builder = Builder::new(TokioExecutor::new()).http1_only();
                    let service = TowerToHyperService::new(router);
                    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
                }));
            }
        }));
        Self { port, rule, seen, _end: end.drop_guard() }
    }

    /// Sets the rule for the fate of the next requests.
    pub fn rule(&self, rule: impl FnMut(&Seen) -> Option<Fault> + Send + 'static) {
        *self.rule.lock().unwrap() = Box::new(rule);
    }

    /// All requests so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

async fn pass(
    request: Request<Body>,
    upstream: Client,
    rule: &Mutex<Rule>,
    seen: &Mutex<Vec<Seen>>,
) -> Response<Body> {
    let uri = request.uri();
    let mut now = Seen {
        method: request.method().to_string(),
        path: uri.path().to_owned(),
        watch: uri.query().is_some_and(|query| query.contains("watch=true")),
        agent: request
            .headers()
            .get(header::USER_AGENT)
            .map(|agent| agent.to_str().unwrap().to_owned())
            .unwrap_or_default(),
        fault: None,
    };
    now.fault = rule.lock().unwrap()(&now);
    let fault = now.fault.clone();
    seen.lock().unwrap().push(now);
    match fault {
        Some(Fault::Status(code, wait)) => {
            let mut response = Response::builder().status(code);
            if let Some(wait) = wait {
                response = response.header(header::RETRY_AFTER, wait);
            }
            return response.body(Body::from(format!("refused with {code} by the test\n"))).unwrap();
        }
        Some(Fault::Silence) => std::future::pending().await,
        Some(Fault::Delay(time)) => sleep(time).await,
        None => {}
    }
    let (mut head, body) = request.into_parts();
    head.headers.remove(header::HOST);
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap_or_default();
    let request = Request::from_parts(head, kube::client::Body::from(body.to_vec()));
    match upstream.send(request).await {
        Ok(response) => response.map(Body::new),
        Err(error) => {
            let body = Body::from(format!("{error}"));
            Response::builder().status(StatusCode::BAD_GATEWAY).body(body).unwrap()
        }
    }
}

/// A client without credentials: those of the requests count.
async fn upstream(plane: &ControlPlane) -> Client {
    let mut config = Config::new(plane.url().parse().unwrap());
    config.root_cert = Some(vec![plane.authority()]);
    config.default_retry = false;
    (config.read_timeout, config.write_timeout) = (None, None);
    ClientBuilder::try_from(config).unwrap().build()
}
