//! The OpenAPI document: what all routes have in common.

use utoipa::OpenApi;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{self, Content, Ref, RefOr, ResponseBuilder, SecurityRequirement};

use crate::admin::access::Access;
use crate::admin::problem;

/// Names of the security schemes.
const TOKEN: &str = "token";
const CERTIFICATE: &str = "certificate";

/// Problems that a request can run into whatever it asks for.
const OF_ALL: [(&str, &str); 2] = [
    ("403", "A page of a browser sends the request, or it needs another scope."),
    ("503", "A shard does not answer: it is stuck, or the broker is about to end."),
];
/// Problems of requests that have to say who sends them.
const OF_CALLERS: [(&str, &str); 1] = [("401", "Nobody knows who sends the request.")];
/// Problems of requests with parameters.
const OF_PARAMETERS: [(&str, &str); 2] = [
    ("400", "A parameter cannot be understood."),
    (TOO_LONG, "The path and the parameters have more than 65,534 bytes. There is no document about it."),
];
/// What is answered before the request is a request.
const TOO_LONG: &str = "414";
/// Problems of requests with a body.
const OF_BODIES: [(&str, &str); 5] = [
    ("400", "The body is no JSON, or a parameter cannot be understood."),
    ("408", "The body has not come in time."),
    ("413", "The body is too long."),
    ("415", "The body is not application/json."),
    ("422", "The body is not as described, or what it asks for is not allowed."),
];

#[derive(OpenApi)]
#[openapi(
    info(
        title = "WillowMQ",
        description = "What operators see of the broker, and do with it.\n\nErrors are problem documents (RFC 9457). Times are in UTC \
                       (RFC 3339), durations in seconds. Lists come in pages: `next` of one is `after` of the following one.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    tags(
        (name = "health", description = "Whether the broker is well. These need no token."),
        (name = "clients", description = "Who is there, and who has a session."),
        (name = "wills", description = "What is published when clients are gone."),
        (name = "messages", description = "Messages, and who is sent them."),
        (name = "operation", description = "What happens to the broker as a whole."),
        (name = "about", description = "What this broker is, and how it is set up."),
    ),
    components(schemas(problem::Document))
)]
struct Beginning;

/// The document without its routes.
pub(super) fn beginning() -> openapi::OpenApi {
    Beginning::openapi()
}

/// Adds to the document of all routes what they have in common, and how requests have to tell who sends them.
pub(super) fn complete(mut document: openapi::OpenApi, access: &Access) -> openapi::OpenApi {
    document.info.version = env!("CARGO_PKG_VERSION").to_owned();
    let components = document.components.get_or_insert_default();
    let schemes = access.schemes();
    if schemes.has_tokens {
        let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        components.security_schemes.insert(TOKEN.to_owned(), RefOr::T(scheme));
    }
    if schemes.has_certificates {
        let scheme = SecurityScheme::MutualTls { description: None, deprecated: None, extensions: None };
        components.security_schemes.insert(CERTIFICATE.to_owned(), RefOr::T(scheme));
    }
    let names = [(schemes.has_tokens, TOKEN), (schemes.has_certificates, CERTIFICATE)];
    let ways: Vec<_> = names.into_iter().filter(|(is_there, _)| *is_there).map(|(_, name)| require(name)).collect();
    for (path, item) in &mut document.paths.paths {
        let operations = [&mut item.get, &mut item.put, &mut item.post, &mut item.delete];
        for operation in operations.into_iter().filter_map(Option::as_mut) {
            if !path.starts_with("/health/") {
                add_problems(operation, !ways.is_empty());
                operation.security = (!ways.is_empty()).then(|| ways.clone());
            }
            describe_problems(operation);
        }
    }
    document
}

fn require(scheme: &str) -> SecurityRequirement {
    SecurityRequirement::new::<_, [&str; 0], &str>(scheme, [])
}

fn add_problems(operation: &mut Operation, asks_who: bool) {
    let has_parameters = operation.parameters.as_ref().is_some_and(|parameters| !parameters.is_empty());
    let problems = OF_ALL.into_iter();
    let problems = problems.chain(OF_CALLERS.into_iter().filter(|_| asks_who));
    let problems = problems.chain(OF_PARAMETERS.into_iter().filter(|_| has_parameters));
    let problems = problems.chain(OF_BODIES.into_iter().filter(|_| operation.request_body.is_some()));
    for (status, description) in problems {
        let described = ResponseBuilder::new().description(description).build();
        operation.responses.responses.entry(status.to_owned()).or_insert(RefOr::T(described));
    }
}

/// Errors are problem documents, unless they are described otherwise.
fn describe_problems(operation: &mut Operation) {
    for (status, response) in &mut operation.responses.responses {
        if let RefOr::T(response) = response
            && status.as_str() >= "400"
            && response.content.is_empty()
            && status != TOO_LONG
        {
            let content = Content::new(Some(Ref::from_schema_name("Problem")));
            response.content.insert(problem::MEDIA_TYPE.to_owned(), RefOr::T(content));
        }
    }
}
