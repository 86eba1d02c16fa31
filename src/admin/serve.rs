//! Connections: accepted, bounded, with HTTPS or without, and given up where they take too long.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::task::yield_now;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use super::access::{Access, Peer};
use super::patience::Patient;
use super::places::Place;
use crate::net::transport::PeerCertificate;

/// A TLS handshake has to be over by then.
const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(10);
/// The head of a request has to be there by then, counted from the end of the one before, so an idle connection goes as well.
const HEAD_PATIENCE: Duration = Duration::from_secs(30);
/// What hyper holds of a connection, for each direction. A head that is longer than this is refused.
const BUFFER_BYTES: usize = 64 * 1024;
/// Fields of one head.
const HEADERS_MAX: usize = 64;
/// How long answers that are under way have at the end.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Where the system has no descriptors left, it is asked again so often.
const TRY_AGAIN: Duration = Duration::from_millis(100);

/// What connections are served with.
pub(super) struct Serving {
    pub(super) access: Arc<Access>,
    pub(super) routes: Router,
}

/// Serves connections until `ended` says so, or whoever could say so is gone.
pub(super) async fn serve(listener: std::net::TcpListener, serving: Serving, ended: oneshot::Receiver<()>) {
    let listener = TcpListener::from_std(listener).expect("the runtime is there");
    let places = &serving.access.places;
    let (stop, stopping) = watch::channel(());
    let accept = async {
        loop {
            let (stream, address) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!("cannot accept an HTTP connection: {error}");
                    sleep(TRY_AGAIN).await;
                    continue;
                }
            };
            // Where nobody has to make room, this one waits here and others wait in the kernel's backlog.
            let place = places.take().await;
            let _ = stream.set_nodelay(true); // Without it answers come later, and that is all.
            let (routes, tls, stopping) = (serving.routes.clone(), serving.access.tls(), stopping.clone());
            let number = place.number();
            let task = tokio::spawn(connection(stream, Arc::new(place), address, tls, routes, stopping));
            places.seat(number, task.abort_handle());
            // What it has to say may be there already, and is to be heard before others come for its place.
            yield_now().await;
        }
    };
    tokio::select! {
        () = accept => {}
        _ = ended => {}
    }
    drop(stop);
    // All places are free once all connections are over. What is left then goes with the runtime.
    let _ = timeout(LAST_WORDS, places.all_free()).await;
}

async fn connection(
    stream: TcpStream,
    place: Arc<Place>,
    address: SocketAddr,
    tls: Option<Arc<ServerConfig>>,
    routes: Router,
    stopping: watch::Receiver<()>,
) {
    let Some(tls) = tls else {
        return requests(Patient::new(stream), Peer { address, certificate: None }, place, routes, stopping).await;
    };
    match timeout(HANDSHAKE_PATIENCE, TlsAcceptor::from(tls).accept(stream)).await {
        Ok(Ok(stream)) => {
            let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
            let certificate = shown.and_then(|certificate| PeerCertificate::read(certificate).ok()).map(Arc::new);
            requests(Patient::new(stream), Peer { address, certificate }, place, routes, stopping).await;
        }
        Ok(Err(error)) => tracing::debug!(peer = %address, "a TLS handshake has failed: {error}"),
        Err(_) => tracing::debug!(peer = %address, "a TLS handshake has taken too long"),
    }
}

/// Answers the requests of one connection.
async fn requests<S>(
    stream: Patient<S>,
    peer: Peer,
    place: Arc<Place>,
    routes: Router,
    mut stopping: watch::Receiver<()>,
) where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let address = peer.address;
    let routes = TowerToHyperService::new(routes);
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(peer.clone());
        request.extensions_mut().insert(Arc::clone(&place));
        routes.call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_PATIENCE)
        .max_buf_size(BUFFER_BYTES)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        _ = stopping.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(peer = %address, "an HTTP connection has failed: {error}");
    }
}
