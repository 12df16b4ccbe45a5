//! A small client of the blob service: signs with the account key as Azure describes it, or sends a token.

use std::collections::BTreeMap;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::HeaderMap;

use crate::client::Lab;

/// An answer of the blob service.
#[derive(Debug)]
pub struct Blob {
    pub status: u16,
    pub headers: HeaderMap,
    pub bytes: Vec<u8>,
}

impl Blob {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default()
    }

    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{} {}", self.header("x-ms-error-code"), self.text());
        self
    }

    /// The code must be in the header and, where there is a body, in it too.
    #[track_caller]
    pub fn refused(self, status: u16, code: &str) -> Self {
        assert_eq!((self.status, self.header("x-ms-error-code")), (status, code), "{}", self.text());
        let start = format!("<?xml version=\"1.0\" encoding=\"utf-8\"?><Error><Code>{code}</Code><Message>");
        assert!(self.bytes.is_empty() || self.text().starts_with(&start), "{}", self.text());
        self
    }
}

/// An account, and its key as `listKeys` gives it.
pub struct Account<'a> {
    pub lab: &'a Lab,
    pub name: &'static str,
    key: Vec<u8>,
}

impl<'a> Account<'a> {
    /// The account with its key as `listKeys` gives it.
    pub async fn of(lab: &'a Lab, name: &'static str) -> Self {
        let listed = lab.arm("POST", &format!("{}/listKeys", lab.account_id(name)), None).await.expect(200);
        let key = STANDARD.decode(listed.body["keys"][0]["value"].as_str().expect("a key")).expect("base64");
        Self { lab, name, key }
    }

    pub fn host(&self) -> String {
        self.lab.sim.arm_url().replace("management", &format!("{}.blob", self.name))
    }

    /// The signature written out anew from Azure's description, to compare with.
    fn signature(&self, method: &str, path: &str, headers: &BTreeMap<&str, String>, length: usize) -> String {
        let get = |name: &str| headers.get(name).cloned().unwrap_or_default();
        let length = if length == 0 { String::new() } else { length.to_string() };
        let mut text =
            [method.to_owned(), String::new(), String::new(), length, get("content-md5"), get("content-type")]
                .join("\n");
        text += &format!("\n\n\n{}\n{}\n\n{}\n", get("if-match"), get("if-none-match"), get("range"));
        for (name, value) in headers.iter().filter(|(n, _)| n.starts_with("x-ms-")) {
            text += &format!("{name}:{value}\n");
        }
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        text += &format!("/{}{path}", self.name);
        let mut pairs: Vec<(&str, &str)> = query.split('&').filter_map(|p| p.split_once('=')).collect();
        pairs.sort_unstable();
        for (name, value) in pairs {
            text += &format!("\n{name}:{value}");
        }
        STANDARD.encode(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &self.key), text.as_bytes()))
    }

    pub async fn send(&self, method: &str, path: &str, with: &[(&'static str, &str)], body: &[u8]) -> Blob {
        let mut headers: BTreeMap<&str, String> = with.iter().map(|(n, v)| (*n, (*v).to_owned())).collect();
        headers.insert("x-ms-date", "Tue, 24 Nov 2026 00:00:00 GMT".to_owned());
        headers.insert("x-ms-version", "2025-05-05".to_owned());
        let signature = self.signature(method, path, &headers, body.len());
        let authorization = format!("SharedKey {}:{signature}", self.name);
        self.request(method, path, headers, &authorization, body).await
    }

    pub async fn with_token(&self, token: &str, method: &str, path: &str, with: &[(&'static str, &str)]) -> Blob {
        let headers = with.iter().map(|(n, v)| (*n, (*v).to_owned())).collect();
        self.request(method, path, headers, &format!("Bearer {token}"), b"by token").await
    }

    pub async fn request(
        &self,
        method: &str,
        path: &str,
        headers: BTreeMap<&str, String>,
        authorization: &str,
        body: &[u8],
    ) -> Blob {
        let method = reqwest::Method::from_bytes(method.as_bytes()).expect("a method");
        let mut request = self.lab.http.request(method.clone(), format!("{}{path}", self.host()));
        for (name, value) in headers {
            request = request.header(name, value);
        }
        if !authorization.is_empty() {
            request = request.header("authorization", authorization);
        }
        if method == reqwest::Method::PUT {
            request = request.body(body.to_vec());
        }
        let response = request.send().await.expect("the blob service answers");
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Blob { status, headers, bytes: response.bytes().await.expect("a body").to_vec() }
    }

    pub async fn put(&self, path: &str, bytes: &[u8]) -> Blob {
        self.send("PUT", path, &[("x-ms-blob-type", "BlockBlob")], bytes).await
    }

    pub async fn get(&self, path: &str) -> Blob {
        self.send("GET", path, &[], b"").await
    }

    pub async fn in_use(&self) -> serde_json::Value {
        let read = self.lab.arm("GET", &self.lab.account_id(self.name), None).await.expect(200);
        read.body["properties"]["encryption"]["keyvaultproperties"].clone()
    }
}
