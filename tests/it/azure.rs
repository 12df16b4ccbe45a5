//! The Azure clients against the simulator: over TLS, with real tokens, challenges, grants that arrive late and faults.
//! Here is the stage they play on.

mod operations;
mod refusals;
mod resources;

use std::collections::BTreeMap;

use arm_schemas::Watch;
use azure_sim::{Options, Propagation, Simulator};
use cmk::azure::keys::{KeyOperation, KeySpec, KeyType};
use cmk::azure::role_assignments::{self, PrincipalType, roles};
use cmk::azure::vaults::{self, NetworkAcls, Vault, VaultSku, VaultSpec};
use cmk::azure::{
    Azure, AzureError, AzureErrorKind, AzureSettings, CallContext, Cloud, CredentialSettings, CustomCloud, Timeouts,
    resource_groups,
};
use cmk::domain::ids::{ArmId, PrincipalId};
use uuid::Uuid;

use crate::support::schemas::watch;

const LOCATION: &str = "westeurope";

/// A simulated cloud with one resource group, and the service's client.
struct Stage {
    /// Fails the test where a body does not hold to Azure's published types.
    _schemas: Watch,
    sim: Simulator,
    azure: Azure,
    cx: CallContext,
}

fn connect(sim: &Simulator, id: &str, secret: &str, timeouts: Timeouts, ca: bool) -> Azure {
    let cloud = Cloud::custom(CustomCloud {
        name: "simulated".into(),
        arm: sim.arm_url(),
        authority_host: sim.login_url(),
        arm_scope: None,
        vault_suffix: sim.vault_suffix(),
        hsm_suffix: sim.hsm_suffix(),
        graph: Some(sim.graph_url()),
        extra_ca_pem: ca.then(|| sim.ca_pem().as_bytes().to_vec()),
    })
    .expect("the simulator's addresses are valid");
    let credential = CredentialSettings::ClientSecret {
        tenant_id: sim.tenant_id().into(),
        client_id: id.into(),
        secret: secret.into(),
    };
    Azure::connect(AzureSettings { cloud, credential, timeouts }).expect("valid settings")
}

impl Stage {
    async fn start() -> Self {
        Self::with(Propagation::instant()).await
    }

    async fn with(propagation: Propagation) -> Self {
        let (schemas, observer) = watch();
        let options = Options { fast_keys: true, propagation, observer: Some(observer), ..Options::default() };
        let sim = Simulator::start(options).await.expect("the simulator starts");
        let azure = connect(&sim, sim.client_id(), sim.client_secret(), Timeouts::default(), true);
        let stage = Self { _schemas: schemas, sim, azure, cx: CallContext::new(Uuid::new_v4()) };
        stage.create_group("rg").await.expect("a resource group");
        stage
    }

    fn outsider(&self) -> Azure {
        let (id, secret) = self.sim.outsider();
        connect(&self.sim, id, secret, Timeouts::default(), true)
    }

    fn subscription(&self) -> Uuid {
        self.sim.subscription_id().parse().expect("a GUID")
    }

    fn id(&self, resource_type: &str, name: &str) -> ArmId {
        ArmId::build(self.subscription(), "rg", resource_type, name).expect("a valid id")
    }

    fn vault_id(&self) -> ArmId {
        self.id(vaults::TYPE, "kv-one")
    }

    async fn create_group(&self, name: &str) -> Result<resource_groups::ResourceGroup, AzureError> {
        let tags = BTreeMap::from([("made-by".to_owned(), "cmk".to_owned())]);
        resource_groups::create(&self.azure.arm, &self.cx, self.subscription(), name, LOCATION, &tags).await
    }

    async fn create_vault(&self, network: Option<NetworkAcls>, public_access: bool) -> Result<Vault, AzureError> {
        let spec = VaultSpec {
            location: LOCATION.into(),
            tenant_id: self.sim.tenant_id().parse().expect("a GUID"),
            sku: VaultSku::Standard,
            retention_days: 7,
            network,
            public_access,
            tags: BTreeMap::new(),
        };
        vaults::create(&self.azure.arm, &self.cx, &self.vault_id(), &spec).await
    }

    async fn grant(&self, principal: PrincipalId, role: Uuid) -> Result<role_assignments::RoleAssignment, AzureError> {
        let (arm, kind) = (&self.azure.arm, PrincipalType::ServicePrincipal);
        role_assignments::create(arm, &self.cx, &self.vault_id(), principal, kind, role, "made by a test").await
    }

    async fn grant_self(&self) {
        let own = self.azure.own_principal(&self.cx).await.expect("a token");
        self.grant(own.id, roles::KEY_VAULT_CRYPTO_OFFICER).await.expect("granted");
    }

    /// A call that this module has no function for, as the service's principal.
    async fn delete(&self, host: &str, path: &str, audience: &str) {
        let token = self.sim.token_for(self.sim.object_id(), audience).expect("a token");
        let client = reqwest::Client::builder()
            .tls_certs_only([reqwest::Certificate::from_pem(self.sim.ca_pem().as_bytes()).expect("a certificate")])
            .resolve(host, self.sim.address())
            .no_proxy()
            .build()
            .expect("a client");
        let url = format!("https://{host}:{}{path}", self.sim.address().port());
        let answer = client.delete(url).bearer_auth(token).send().await.expect("answered");
        assert!(answer.status().is_success(), "{} {path}", answer.status());
    }
}

fn key_spec() -> KeySpec {
    KeySpec {
        kty: KeyType::Rsa,
        size_bits: Some(2048),
        curve: None,
        operations: vec![KeyOperation::WrapKey, KeyOperation::UnwrapKey],
        expires: None,
        not_before: None,
        tags: BTreeMap::from([("cmk-job".to_owned(), "j-1".to_owned())]),
    }
}

#[track_caller]
fn expect_kind<T: std::fmt::Debug>(result: Result<T, AzureError>, kind: AzureErrorKind) -> AzureError {
    let error = result.expect_err("an error");
    assert_eq!(error.kind, kind, "{error:?}");
    error
}
