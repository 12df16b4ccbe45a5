//! Client assertions: with a registered certificate, and with the word of a foreign issuer.

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaEncoding};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
use serde_json::{Value, json};

use crate::client::{Answer, Lab};

const EXCHANGE: &str = "api://AzureADTokenExchange";
const ISSUER: &str = "https://issuer.example/cluster-1";

/// Who signs.
struct Signer(KeyPair);

impl Signer {
    fn new() -> Self {
        Self(KeyPair::generate(KeySize::Rsa2048).expect("a key"))
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        let pss = header["alg"] == "PS256";
        let encoding: &'static dyn RsaEncoding = if pss { &RSA_PSS_SHA256 } else { &RSA_PKCS1_SHA256 };
        let text = format!("{}.{}", B64.encode(header.to_string()), B64.encode(claims.to_string()));
        let mut signature = vec![0; self.0.public_modulus_len()];
        self.0.sign(encoding, &SystemRandom::new(), text.as_bytes(), &mut signature).expect("signed");
        format!("{text}.{}", B64.encode(signature))
    }

    fn jwks(&self, kid: &str) -> Value {
        let public = self.0.public_key();
        let (n, e) = (public.modulus(), public.exponent());
        json!({ "keys": [{ "kty": "RSA", "kid": kid, "use": "sig", "alg": "RS256",
            "n": B64.encode(n.big_endian_without_leading_zero()), "e": B64.encode(e.big_endian_without_leading_zero()) }] })
    }

    /// A certificate of this key and its SHA-256 thumbprint.
    fn certificate(&self) -> (String, String) {
        let der = AsDer::<aws_lc_rs::encoding::Pkcs8V1Der<'_>>::as_der(&self.0).expect("a private key");
        let der = rcgen::string_pem(der.as_ref());
        let key = rcgen::KeyPair::from_pem_and_sign_algo(&der, &rcgen::PKCS_RSA_SHA256).expect("the same key");
        let mut params = rcgen::CertificateParams::new(vec!["app.example".to_owned()]).expect("a name");
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2060, 1, 1);
        let made = params.self_signed(&key).expect("signed");
        let print = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, made.der());
        (made.pem(), B64.encode(print.as_ref()))
    }
}

mod rcgen {
    pub use ::rcgen::*;

    /// PKCS#8 in PEM.
    pub fn string_pem(der: &[u8]) -> String {
        use base64::Engine;
        let text = base64::engine::general_purpose::STANDARD.encode(der);
        format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n")
    }
}

async fn ask(lab: &Lab, client: &str, assertion: &str) -> Answer {
    let url = format!("{}/{}/oauth2/v2.0/token", lab.sim.login_url(), lab.sim.tenant_id());
    let form = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("grant_type", "client_credentials")
        .append_pair("client_id", client)
        .append_pair("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
        .append_pair("client_assertion", assertion)
        .append_pair("scope", "https://management.azure.com/.default")
        .finish();
    let request = lab.http.post(url).header("content-type", "application/x-www-form-urlencoded").body(form);
    crate::client::read(request.send().await.expect("the login host answers")).await
}

fn claims_of(answer: &Answer) -> Value {
    let token = answer.body["access_token"].as_str().expect("a token");
    let part = token.split('.').nth(1).expect("claims");
    serde_json::from_slice(&B64.decode(part).expect("base64")).expect("JSON")
}

async fn control(lab: &Lab, method: &str, path: &str, body: Value) -> Answer {
    lab.send(method, &lab.arm_link(&format!("/_sim/{path}")), "", Some(&body)).await
}

#[tokio::test]
async fn a_registered_certificate_buys_a_token() {
    let lab = Lab::start().await;
    let (client, signer, now) = (lab.sim.client_id().to_owned(), Signer::new(), lab.sim.clock().now().unix_timestamp());
    let (pem, print) = signer.certificate();
    control(&lab, "POST", &format!("principals/{client}/certificates"), json!({ "certificate": pem }))
        .await
        .expect(204);
    let audience = format!("{}/{}/oauth2/v2.0/token", lab.sim.login_url(), lab.sim.tenant_id());
    let claims =
        |aud: &str, exp: i64| json!({ "iss": client, "sub": client, "aud": aud, "exp": exp, "nbf": now, "jti": "1" });
    for alg in ["RS256", "PS256"] {
        let header = json!({ "alg": alg, "typ": "JWT", "x5t#S256": print });
        let token = ask(&lab, &client, &signer.sign(&header, &claims(&audience, now + 600))).await.expect(200);
        assert_eq!((&claims_of(&token)["appidacr"], &claims_of(&token)["appid"]), (&json!("2"), &json!(client)));
    }
    let header = json!({ "alg": "RS256", "x5t#S256": print });
    // Good until the end of all time.
    ask(&lab, &client, &signer.sign(&header, &claims(&audience, 253_402_300_799))).await.expect(200);
    for (header, claims, by, code) in [
        (json!({ "alg": "RS256", "x5t": "AAAA" }), claims(&audience, now + 600), &signer, 700_027),
        (header.clone(), claims(&audience, now + 600), &Signer::new(), 700_027),
        (header.clone(), claims("https://elsewhere.example", now + 600), &signer, 700_023),
        (header.clone(), claims(&audience, now - 3600), &signer, 700_024),
        (header.clone(), claims(&audience, i64::MAX), &signer, 700_024),
        (json!({ "alg": "none", "x5t#S256": print }), claims(&audience, now + 600), &signer, 700_027),
    ] {
        let refused = ask(&lab, &client, &by.sign(&header, &claims)).await.expect(401);
        assert_eq!(refused.body["error_codes"][0], code, "{header}");
    }
    let torn = ask(&lab, &client, "a.b.c").await.expect(401);
    assert_eq!(torn.body["error_codes"][0], 50027);
    // The certificate is another application's than the outsider's.
    let outsider = lab.sim.outsider().0.to_owned();
    let foreign = json!({ "iss": outsider, "sub": outsider, "aud": audience, "exp": now + 600 });
    let refused = ask(&lab, &outsider, &signer.sign(&header, &foreign)).await.expect(401);
    assert_eq!(refused.body["error_codes"][0], 700_027);
    let bad = control(&lab, "POST", &format!("principals/{client}/certificates"), json!({ "certificate": "x" })).await;
    bad.refused(400, "BadControlRequest");
}

fn credential(lab: &Lab, name: &str) -> String {
    format!("{}/federatedIdentityCredentials/{name}", lab.identity_id())
}

fn trusting(issuer: &str, subject: &str) -> Value {
    json!({ "properties": { "issuer": issuer, "subject": subject, "audiences": [EXCHANGE] } })
}

#[tokio::test]
async fn an_identity_takes_the_word_of_the_issuer_it_names() {
    let lab = Lab::start().await;
    lab.ground().await;
    let (signer, now) = (Signer::new(), lab.sim.clock().now().unix_timestamp());
    control(&lab, "PUT", "issuers", json!({ "issuer": ISSUER, "jwks": signer.jwks("k1") })).await.expect(204);
    let made = lab.arm("PUT", &credential(&lab, "pipeline"), Some(trusting(ISSUER, "repo:main"))).await.expect(201);
    assert_eq!(made.body["properties"]["audiences"][0], EXCHANGE);
    let identity = lab.arm("GET", &lab.identity_id(), None).await.expect(200);
    let client = identity.body["properties"]["clientId"].as_str().expect("an id").to_owned();
    let header = json!({ "alg": "RS256", "kid": "k1" });
    let claims = |iss: &str, sub: &str, aud: &str, exp: i64| json!({ "iss": iss, "sub": sub, "aud": aud, "exp": exp });
    let good = claims(ISSUER, "repo:main", EXCHANGE, now + 600);
    let token = ask(&lab, &client, &signer.sign(&header, &good)).await.expect(200);
    assert_eq!(claims_of(&token)["oid"], identity.body["properties"]["principalId"]);
    for (claims, by, status, code) in [
        (claims("https://other.example", "repo:main", EXCHANGE, now + 600), &signer, 400, 700_211),
        (claims(ISSUER, "repo:Main", EXCHANGE, now + 600), &signer, 400, 700_213),
        (claims(ISSUER, "repo:main", "api://other", now + 600), &signer, 400, 700_212),
        (claims(ISSUER, "repo:main", EXCHANGE, now - 3600), &signer, 401, 700_024),
        (good.clone(), &Signer::new(), 401, 700_027),
    ] {
        let refused = ask(&lab, &client, &by.sign(&header, &claims)).await.expect(status);
        assert_eq!(refused.body["error_codes"][0], code, "{claims}");
    }
    // Issuers whose keys nobody told are not fetched.
    let untold = "https://issuer.example/untold";
    lab.arm("PUT", &credential(&lab, "untold"), Some(trusting(untold, "me"))).await.expect(201);
    let refused =
        ask(&lab, &client, &signer.sign(&header, &claims(untold, "me", EXCHANGE, now + 600))).await.expect(401);
    assert_eq!(refused.body["error_codes"][0], 700_027);
    // What is taken away is not believed any more.
    lab.arm("DELETE", &credential(&lab, "pipeline"), None).await.expect(200);
    lab.arm("DELETE", &credential(&lab, "pipeline"), None).await.expect(204);
    let refused = ask(&lab, &client, &signer.sign(&header, &good)).await.expect(400);
    assert_eq!(refused.body["error_codes"][0], 700_211);
}

#[tokio::test]
async fn federated_credentials_are_checked_listed_and_bounded() {
    let lab = Lab::start().await;
    lab.ground().await;
    let put = async |name: &str, body: Value| lab.arm("PUT", &credential(&lab, name), Some(body)).await;
    put("first", trusting(ISSUER, "a")).await.expect(201);
    put("first", trusting(ISSUER, "a")).await.expect(200);
    put("second", trusting(ISSUER, "a")).await.refused(409, "Conflict");
    put("x", trusting(ISSUER, "b")).await.refused(400, "BadRequest");
    put("third", trusting("not a URL", "b")).await.refused(400, "BadRequest");
    let mut two = trusting(ISSUER, "b");
    two["properties"]["audiences"] = json!(["a", "b"]);
    put("third", two).await.refused(400, "BadRequest");
    for n in 1..20 {
        put(&format!("more-{n}"), trusting(ISSUER, &format!("s{n}"))).await.expect(201);
    }
    put("one-too-many", trusting(ISSUER, "z")).await.refused(409, "FederatedIdentityCredentialsLimitReached");
    let all = format!("{}/federatedIdentityCredentials", lab.identity_id());
    let listed = lab.arm("GET", &all, None).await.expect(200);
    assert_eq!(listed.body["value"].as_array().map(Vec::len), Some(20));
    lab.arm("GET", &credential(&lab, "first"), None).await.expect(200);
    lab.arm("GET", &credential(&lab, "none"), None).await.refused(404, "ResourceNotFound");
    let (id, secret) = lab.sim.outsider();
    let outsider = lab.token_as(id, secret, "https://management.azure.com/.default").await;
    lab.arm_as(&outsider, "PUT", &credential(&lab, "mine"), Some(trusting(ISSUER, "me")))
        .await
        .refused(403, "AuthorizationFailed");
}
