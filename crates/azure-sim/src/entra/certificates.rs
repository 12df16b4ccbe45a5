//! Certificates registered with an application: as much of X.509 as telling, dating and using their keys needs. Whether an
//! authority signed them does not matter, to Entra neither: registration is what makes them trusted.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD as B64, URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use time::{Date, Month, OffsetDateTime, Time};

/// A registered certificate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Certificate {
    der: Vec<u8>,
    /// SubjectPublicKeyInfo in DER.
    pub public_key: Vec<u8>,
    pub not_before: OffsetDateTime,
    pub not_after: OffsetDateTime,
}

/// The text is no certificate.
#[derive(Debug, PartialEq, thiserror::Error)]
#[error("not an X.509 certificate")]
pub(crate) struct NoCertificate;

impl TryFrom<String> for Certificate {
    type Error = NoCertificate;

    /// From DER in base64, the form of the state file.
    fn try_from(text: String) -> Result<Self, NoCertificate> {
        Self::from_der(B64.decode(text).map_err(|_| NoCertificate)?)
    }
}

impl From<Certificate> for String {
    fn from(certificate: Certificate) -> Self {
        B64.encode(certificate.der)
    }
}

impl Certificate {
    /// From PEM; of several blocks the first certificate counts, and what stands around it does not.
    pub fn from_pem(text: &str) -> Result<Self, NoCertificate> {
        let (_, rest) = text.split_once("-----BEGIN CERTIFICATE-----").ok_or(NoCertificate)?;
        let (body, _) = rest.split_once("-----END CERTIFICATE-----").ok_or(NoCertificate)?;
        let body: String = body.chars().filter(|c| !c.is_whitespace()).collect();
        Self::try_from(body)
    }

    fn from_der(der: Vec<u8>) -> Result<Self, NoCertificate> {
        let read = || {
            let (whole, _) = element(&der, SEQUENCE)?;
            let (mut rest, _) = element(whole.content, SEQUENCE)?;
            // [0] version, where it is given; then serial number, signature algorithm and issuer.
            if rest.content.first() == Some(&0xa0) {
                rest.content = any(rest.content)?.1;
            }
            let mut at = rest.content;
            for _ in 0..3 {
                at = any(at)?.1;
            }
            let (validity, at) = element(at, SEQUENCE)?;
            let (_, at) = any(at)?;
            let (key, _) = element(at, SEQUENCE)?;
            let (before, dates) = any(validity.content)?;
            let (after, _) = any(dates)?;
            Some((date(&before)?, date(&after)?, key.whole.to_vec()))
        };
        let (not_before, not_after, public_key) = read().ok_or(NoCertificate)?;
        Ok(Self { public_key, not_before, not_after, der })
    }

    /// Whether a JWT header's `x5t` (SHA-1), `x5t#S256` or `kid` names this certificate. Thumbprints are base64url; a `kid`
    /// of older clients is in hex.
    pub fn is_named(&self, x5t: Option<&str>, x5t_s256: Option<&str>, kid: Option<&str>) -> bool {
        let sha1 = digest(&SHA1_FOR_LEGACY_USE_ONLY, &self.der);
        let sha256 = digest(&SHA256, &self.der);
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let hex: String = sha1.as_ref().iter().map(|b| format!("{b:02x}")).collect();
        let plain = |given: Option<&str>| given.map(|g| g.trim_end_matches('=').to_owned());
        plain(x5t_s256).is_some_and(|g| g == text(sha256.as_ref()))
            || plain(x5t).is_some_and(|g| g == text(sha1.as_ref()))
            || plain(kid).is_some_and(|g| g == text(sha1.as_ref()) || g.eq_ignore_ascii_case(&hex))
    }
}

const SEQUENCE: u8 = 0x30;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// One DER element.
struct Element<'a> {
    tag: u8,
    content: &'a [u8],
    whole: &'a [u8],
}

/// The first element and what stands behind it. Lengths beyond what is there are refused, so nothing here can panic.
fn any(input: &[u8]) -> Option<(Element<'_>, &[u8])> {
    let (&tag, rest) = input.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let count = usize::from(first & 0x7f);
        if count == 0 || count > 4 {
            return None;
        }
        let (bytes, rest) = rest.split_at_checked(count)?;
        (bytes.iter().fold(0, |sum, b| sum << 8 | usize::from(*b)), rest)
    };
    let (content, behind) = rest.split_at_checked(length)?;
    let whole = &input[..input.len() - behind.len()];
    Some((Element { tag, content, whole }, behind))
}

fn element(input: &[u8], tag: u8) -> Option<(Element<'_>, &[u8])> {
    any(input).filter(|(element, _)| element.tag == tag)
}

/// `YYMMDDHHMMSSZ` or `YYYYMMDDHHMMSSZ`.
fn date(element: &Element<'_>) -> Option<OffsetDateTime> {
    let text = std::str::from_utf8(element.content).ok().filter(|t| t.is_ascii())?;
    let (year, rest) = match element.tag {
        UTC_TIME => {
            let (year, rest) = text.split_at_checked(2)?;
            let year: i32 = year.parse().ok()?;
            (if year < 50 { 2000 + year } else { 1900 + year }, rest)
        }
        GENERALIZED_TIME => {
            let (year, rest) = text.split_at_checked(4)?;
            (year.parse().ok()?, rest)
        }
        _ => return None,
    };
    let part = |at: usize| rest.get(at..at + 2)?.parse::<u8>().ok();
    let day = Date::from_calendar_date(year, Month::try_from(part(0)?).ok()?, part(2)?).ok()?;
    let time = Time::from_hms(part(4)?, part(6)?, part(8)?).ok()?;
    Some(day.with_time(time).assume_utc())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made() -> (rcgen::Certificate, rcgen::KeyPair) {
        let key = rcgen::KeyPair::generate().expect("a key");
        let mut params = rcgen::CertificateParams::new(vec!["app.example".to_owned()]).expect("a name");
        params.not_before = rcgen::date_time_ymd(2025, 2, 3);
        params.not_after = rcgen::date_time_ymd(2061, 4, 5);
        (params.self_signed(&key).expect("signed"), key)
    }

    #[test]
    fn dates_key_and_thumbprints_are_read() {
        let (pem, key) = made();
        let certificate = Certificate::from_pem(&format!("text around\n{}", pem.pem())).expect("a certificate");
        assert_eq!(certificate.not_before, rcgen::date_time_ymd(2025, 2, 3));
        assert_eq!(certificate.not_after, rcgen::date_time_ymd(2061, 4, 5));
        assert_eq!(certificate.public_key, rcgen::PublicKeyData::subject_public_key_info(&key));
        let sha256 = URL_SAFE_NO_PAD.encode(digest(&SHA256, pem.der()).as_ref());
        assert!(certificate.is_named(None, Some(&sha256), None));
        assert!(!certificate.is_named(Some(&sha256), None, Some("")));
        let again = Certificate::try_from(String::from(certificate.clone()));
        assert_eq!(again, Ok(certificate));
    }

    #[test]
    fn cut_and_changed_bytes_do_not_panic() {
        let (pem, _) = made();
        let der = pem.der().to_vec();
        for cut in 0..der.len() {
            let _ = Certificate::from_der(der[..cut].to_vec());
            let mut bent = der.clone();
            bent[cut] = bent[cut].wrapping_add(0x7f);
            let _ = Certificate::from_der(bent);
        }
        assert_eq!(Certificate::from_pem("nothing"), Err(NoCertificate));
    }
}
