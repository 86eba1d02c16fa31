//! What every request passes before it is answered: does a page of a browser send it that should not, who sends it, may they.

use std::sync::Arc;

use axum::extract::{Extension, Request, State as Shared};
use axum::http::{HeaderMap, HeaderName, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::access::{Access, Peer};
use super::places::Place;
use super::problem::Problem;
use super::tokens::Scope;
use super::{State, stream};

/// What browsers say of the page that sends a request (Fetch Metadata).
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Lets a request through, or turns it away.
pub(super) async fn guard(
    Shared(state): Shared<State>,
    Extension(peer): Extension<Peer>,
    Extension(place): Extension<Arc<Place>>,
    request: Request,
    next: Next,
) -> Response {
    // Whoever asks for the health of the broker has no secrets, and is told none.
    if request.uri().path().starts_with("/health/") {
        return next.run(request).await;
    }
    let access = &state.access;
    let admitted = check_page(access, request.uri(), request.headers()).and_then(|()| {
        let token = bearer(request.headers())?;
        access.caller(&peer, token).ok_or_else(|| unauthorized(token.is_some()))
    });
    let needed = scope_of(request.method());
    let admitted = admitted.and_then(|caller| match caller.scope >= needed {
        true => Ok(caller),
        false => Err(Problem::new(
            StatusCode::FORBIDDEN,
            format!("{} may only read; this needs a token with the scope \"write\"", caller.name),
        )),
    });
    let caller = match admitted {
        Ok(caller) => caller,
        Err(problem) => {
            access.note_refused(state.desk.now(), &peer, problem.detail());
            return problem.into_response();
        }
    };
    let change = (needed == Scope::Write).then(|| format!("{} {}", request.method(), in_ascii(request.uri())));
    place.keep();
    let response = next.run(request).await;
    if !stream::goes_on(&response) {
        place.rest();
    }
    // What was changed, and by whom: that is looked for when something went wrong. The path names the client, percent-encoded.
    if let Some(change) = change {
        tracing::info!(
            target: super::AUDIT,
            by = caller.name,
            peer = %peer.address,
            status = response.status().as_u16(),
            subject = response.extensions().get::<Subject>().map(|subject| subject.0.as_str()),
            "{change}"
        );
    }
    response
}

/// What a request was about, where its path does not tell: for the log.
#[derive(Clone)]
pub(super) struct Subject(pub(super) String);

/// A URI for the log. Some clients send characters that they should have encoded, and a terminal could show the line in another order.
fn in_ascii(uri: &Uri) -> String {
    let encode = |byte: u8| match byte.is_ascii() {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    uri.to_string().bytes().map(encode).collect()
}

fn scope_of(method: &Method) -> Scope {
    if method.is_safe() { Scope::Read } else { Scope::Write }
}

/// Where nothing but the address is needed to be let in, any page in a browser on this machine could send requests: to the address, or to
/// a name of its own that it has lead there (DNS rebinding). Browsers tell where a request comes from and whom they take us for.
fn check_page(access: &Access, uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
    let forbidden = |detail: String| Err(Problem::new(StatusCode::FORBIDDEN, detail));
    let host = headers.get(header::HOST).map(|host| host.to_str().unwrap_or("?"));
    if access.is_open() {
        let named: Vec<_> = uri.authority().map(|authority| authority.as_str()).into_iter().chain(host).collect();
        if named.is_empty() || !named.iter().all(|host| is_ours(host, access)) {
            return forbidden(
                "the Host of the request is no loopback address and not admin.address: requests by other names need a token_file".to_owned(),
            );
        }
    }
    if let Some(site) = headers.get(SEC_FETCH_SITE)
        && site != "same-origin"
        && site != "none"
    {
        return forbidden("a page from somewhere else sends this request".to_owned());
    }
    let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
    let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, host)| host);
    match (origin, host) {
        (Some(origin), Some(host)) if origin.eq_ignore_ascii_case(host) => Ok(()),
        _ => forbidden("the Origin of the request is another host: a page from somewhere else sends it".to_owned()),
    }
}

/// Whether a host, with or without a port, is this machine by its loopback, or where we listen.
fn is_ours(host: &str, access: &Access) -> bool {
    if let Ok(address) = host.parse::<std::net::SocketAddr>() {
        return address.ip().is_loopback() || address.ip() == access.address.ip();
    }
    let name = match host.rsplit_once(':') {
        Some((name, port)) if !host.ends_with(']') && port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    match bare.parse::<std::net::IpAddr>() {
        Ok(address) => address.is_loopback() || address == access.address.ip(),
        Err(_) => name.eq_ignore_ascii_case("localhost"),
    }
}

/// The token of a request.
fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let Some(authorization) = headers.get(header::AUTHORIZATION) else { return Ok(None) };
    let scheme = authorization.to_str().ok().and_then(|value| value.split_once(' '));
    match scheme {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Ok(Some(token.trim())),
        _ => Err(unauthorized(true)),
    }
}

fn unauthorized(has_token: bool) -> Problem {
    let (detail, challenge) = match has_token {
        true => ("nobody has the token of the request", "Bearer error=\"invalid_token\""),
        false => ("a token is needed, in a header field Authorization: Bearer", "Bearer"),
    };
    Problem::unauthorized(detail, challenge)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Admin;
    use axum::http::HeaderValue;

    fn is_ours_at(address: &str, host: &str) -> bool {
        let admin = Admin { address: Some(address.parse().unwrap()), ..Admin::default() };
        is_ours(host, &Access::new(&admin).unwrap())
    }

    #[test]
    fn a_host_is_a_loopback_address_or_where_we_listen() {
        for host in ["localhost", "LocalHost:8080", "127.0.0.1", "127.9.9.9:1", "[::1]", "[::1]:8080"] {
            assert!(is_ours_at("127.0.0.1:8080", host), "{host}");
        }
        for host in [
            "",
            ":8080",
            "example.org",
            "example.org:8080",
            "localhost.example.org",
            "10.0.0.1",
            "127.0.0.1.nip.io",
            "?",
        ] {
            assert!(!is_ours_at("127.0.0.1:8080", host), "{host}");
        }
        assert!(is_ours_at("10.0.0.1:8080", "10.0.0.1:8080"));
    }

    #[test]
    fn the_log_is_told_of_no_character_that_should_have_been_encoded() {
        let uri = Uri::from_maybe_shared("/wills/a%2Fb\u{202e}c?d=é".as_bytes()).unwrap();
        assert_eq!(in_ascii(&uri), "/wills/a%2Fb%E2%80%AEc?d=%C3%A9");
    }

    #[test]
    fn a_page_must_come_from_the_host_it_asks() {
        let access = Access::new(&Admin::default()).unwrap();
        let check = |fields: &[(HeaderName, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in fields {
                headers.insert(name, HeaderValue::from_static(value));
            }
            check_page(&access, &Uri::from_static("/api/v1/clients"), &headers).is_ok()
        };
        let host = || (header::HOST, "localhost:8080");
        assert!(check(&[host()]));
        assert!(check(&[host(), (header::ORIGIN, "http://localhost:8080")]));
        assert!(check(&[host(), (SEC_FETCH_SITE, "same-origin")]));
        assert!(check(&[host(), (SEC_FETCH_SITE, "none")]), "typed by hand");
        assert!(!check(&[]), "no Host");
        assert!(!check(&[host(), (header::ORIGIN, "http://localhost:3000")]));
        assert!(!check(&[host(), (header::ORIGIN, "https://example.org")]));
        assert!(!check(&[host(), (header::ORIGIN, "null")]));
        assert!(!check(&[host(), (SEC_FETCH_SITE, "cross-site")]));
        assert!(!check(&[host(), (SEC_FETCH_SITE, "same-site")]));
        assert!(!check(&[(header::HOST, "rebound.example.org:8080")]));
    }
}
