//! The only place that builds HTTP clients: to IM, and to the receiver of alerts.
//!
//! Owns: what all of them have in common, and how an error is told without its URL. Must not know: what is sent, to whom.

use std::error::Error;

use reqwest::redirect::Policy;
use reqwest::{Client, ClientBuilder};
use url::{Host, Url};

/// Settings for requests to `url`; `None` stands for a host of the vendor, which needs TLS.
///
/// URLs hold secrets. So no redirect is followed, no referer is sent, and nothing is repeated behind the caller's back.
/// `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` of the environment apply to every host but this machine.
pub fn builder(url: Option<&Url>) -> ClientBuilder {
    // An error means that a provider is installed already. It then serves this client too.
    let _ = rustls::crypto::ring::default_provider().install_default();
    #[expect(clippy::disallowed_methods, reason = "this is the place where HTTP clients are built")]
    let builder = Client::builder()
        .user_agent(concat!("imsync/", env!("CARGO_PKG_VERSION")))
        .redirect(Policy::none())
        .referer(false)
        .retry(reqwest::retry::never());
    match url {
        None => builder.https_only(true),
        Some(url) if is_loopback(url) && url.scheme() == "https" => builder.no_proxy(),
        // Without TLS, the machine's CA certificates are not needed and not read.
        Some(url) if is_loopback(url) => builder.no_proxy().tls_certs_only([]),
        Some(_) => builder,
    }
}

/// Builds the client.
///
/// # Errors
/// When TLS cannot be set up, with a message for the operator.
pub fn build(builder: ClientBuilder) -> Result<Client, String> {
    builder
        .build()
        .map_err(|error| format!("cannot set up TLS: {}; is the package ca-certificates installed?", root_cause(error)))
}

/// The URL leads to this machine.
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// The innermost cause ("Connection refused", "invalid peer certificate: …"). The outer errors contain the URL.
pub fn root_cause(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut cause: &dyn Error = &error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    let cause = cause.to_string();
    // What rustls says about an answer in plain text.
    if cause.contains("InvalidContentType") { "it does not speak TLS (https)".to_owned() } else { cause }
}
