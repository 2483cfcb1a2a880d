//! The record of a refusal by IM.
//!
//! Owns: the text of a refusal. Must not know: what becomes of the account, where the refusal is stored.

use super::code::Code;
use super::redact::{SentSecrets, redact};
use crate::model::VendorRefusal;

/// The refusal as it is recorded and shown: the advice on the code, then the vendor's `ErrorInfo` and `RequestId`.
///
/// `values` are those that the call carried. None of them appears in the reason, and the `ErrorInfo` takes one line of
/// at most 300 characters. An empty `info` is left out, and so is that of a gateway's answer, which is not the vendor's.
pub fn vendor_refusal<'a>(
    code: Code,
    info: &str,
    request_id: Option<&str>,
    values: impl Iterator<Item = &'a str>,
) -> VendorRefusal {
    let values: Vec<&str> = values.collect();
    let info = if code.comes_from_gateway() { "" } else { info };
    let info = redact(info, SentSecrets { signature: "", values: &values });
    let mut reason = format!("{} ({code}", code.advice());
    if !info.is_empty() {
        reason.push_str(", ErrorInfo: ");
        reason.push_str(&info);
    }
    if let Some(id) = request_id {
        reason.push_str(", RequestId: ");
        reason.push_str(id);
    }
    reason.push(')');
    VendorRefusal { code: code.number(), reason, of_account: code.concerns_account() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_value_of_a_user_reaches_a_reason() {
        let refusal = vendor_refusal(
            Code::Vendor(90033),
            "attribute city value Atlantis is not valid",
            Some("req-1"),
            ["Atlantis"].into_iter(),
        );
        assert_eq!((refusal.code, refusal.of_account), (90033, false));
        assert!(refusal.reason.contains("attribute city value … is not valid"), "{}", refusal.reason);
        assert!(refusal.reason.contains("90033") && refusal.reason.contains("req-1"), "{}", refusal.reason);
        assert!(refusal.reason.starts_with(&Code::Vendor(90033).advice()), "{}", refusal.reason);
    }

    #[test]
    fn a_gateways_refusal_names_the_status_and_nothing_else() {
        let refusal = vendor_refusal(Code::Http(403), "proxy answered 403 Atlantis", None, ["Atlantis"].into_iter());
        assert_eq!((refusal.code, refusal.of_account), (403, false));
        let expected = "A gateway between imsync and IM refused the content of the call. \
                        Look in the gateway's log for the rule that the account or the value meets. (HTTP status 403)";
        assert_eq!(refusal.reason, expected);
    }

    #[test]
    fn a_refusal_without_a_text_shows_code_and_advice() {
        let refusal = vendor_refusal(Code::Vendor(70107), "", None, std::iter::empty());
        let advice = Code::Vendor(70107).advice();
        assert_eq!(refusal, VendorRefusal { code: 70107, reason: format!("{advice} (code 70107)"), of_account: true });
    }
}
