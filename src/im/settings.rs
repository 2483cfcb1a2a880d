//! What a client is made with.
//!
//! Owns: the settings of a client. Must not know: environment variables, keys of the configuration.

use std::fmt;
use std::time::Duration;

use secrecy::SecretString;

use crate::model::{Region, Service};
use crate::secret_file::SecretFile;

/// The settings of a client.
#[derive(Clone, Debug)]
pub struct ClientSettings {
    /// Where the calls go.
    pub api_base: ApiBase,
    /// The push service to call.
    pub service: Service,
    /// The app's number in the vendor's console.
    pub sdk_app_id: u32,
    /// An administrator of the app.
    pub identifier: String,
    /// The app's secret key. Its characters are the key: hexadecimal digits are not decoded.
    pub secret_key: SecretString,
    /// The file of the key, where it comes from one. It is read again when IM refuses the key.
    pub secret_key_file: Option<SecretFile>,
    /// How long IM accepts a UserSig, at least one second. The client renews it after half of this time.
    pub usersig_lifetime: Duration,
    /// The limit for one call, from connecting to the last byte of the answer. It includes the backup host and the one
    /// repetition with a fresh UserSig.
    pub timeout: Duration,
}

/// Where the calls go.
#[derive(Clone)]
pub enum ApiBase {
    /// The region's host and its backup host. `HTTPS_PROXY` and `NO_PROXY` of the environment are honoured.
    Region(Region),
    /// The URL of a proxy or of the simulator. There is no backup host. `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` of the
    /// environment are honoured, unless the URL leads to this machine.
    BaseUrl(url::Url),
}

impl fmt::Debug for ApiBase {
    /// Without the path and the password that a URL may hold.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Region(region) => f.debug_tuple("Region").field(region).finish(),
            Self::BaseUrl(url) => f.debug_tuple("BaseUrl").field(&url.host_str().unwrap_or_default()).finish(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_shows_no_path_and_no_password() {
        let url = url::Url::parse("http://user:proxy-password@im.example/secret-path").expect("a valid URL");
        assert_eq!(format!("{:?}", ApiBase::BaseUrl(url)), "BaseUrl(\"im.example\")");
        assert_eq!(format!("{:?}", ApiBase::Region(Region::Tokyo)), "Region(Tokyo)");
    }
}
