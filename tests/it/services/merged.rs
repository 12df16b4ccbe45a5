//! Types that are written whole, after they were read: what is sent back, and that what somebody else changes in between
//! stays.

use azure_sim::{Options, Propagation};
use cmk::services::find;

use super::*;

/// Adds a tag to the target, as somebody who knows nothing of the job.
async fn meddle(place: &Place, id: &str, tags: Value) {
    let version = &place.service.api_version;
    let azure = &place.world.azure;
    let cx = CallContext::new(Uuid::nil());
    azure.arm.patch(&cx, id, version, &json!({ "tags": tags })).await.expect("a tag can be set");
}

async fn meddled(slug: &str, step: &'static str) {
    let service = find(slug).expect("it is in the catalogue");
    // Everything is done with its answer, so that the change in between is over when the job writes.
    let options = Options { propagation: Propagation::instant(), lro_duration: Duration::ZERO, ..Options::default() };
    let place = Arc::new(Place::in_world(service, World::start_with(options).await).await);
    let cell = Cell::all(service).into_iter().find(|c| !c.creating && !c.hsm).expect("it changes what exists");
    place.arrange(0, cell).await;
    let id = place.id(0, &service.arm_type);
    meddle(&place, &id, json!({ "by": "its owner" })).await;

    let (done, runtime) = (Arc::new(AtomicBool::new(false)), tokio::runtime::Handle::current());
    let (at, held, there) = (Arc::clone(&done), Arc::clone(&place), id.clone());
    let points: CrashPoints = Arc::new(move |name, point| {
        if name == step && point == CrashPoint::BeforeAct && !at.swap(true, Ordering::SeqCst) {
            let change = meddle(&held, &there, json!({ "by": "its owner", "since": "the look" }));
            tokio::task::block_in_place(|| runtime.block_on(change));
        }
        false
    });
    let job = place.world.submit(&place.request(0, cell)).await;
    let job = place.world.run_to_end(&place.worker().with_crash_points(points), job).await;
    assert_eq!(job.state, JobState::Succeeded, "{slug} {step}: {:?}", job.failure);
    assert!(done.load(Ordering::SeqCst), "{slug} {step}: nothing was changed in between");

    let cx = CallContext::new(Uuid::nil());
    let answer = place.world.azure.arm.get(&cx, &id, &service.api_version).await.expect("it can be read");
    let body = answer.expect("it exists").body;
    assert_eq!(body["tags"], json!({ "by": "its owner", "since": "the look" }), "{slug} {step}");
    let refused = Filter { status: Some(412), ..Filter::on("PUT", &id) };
    assert_eq!(place.world.sim.journal().count(&refused), 1, "{slug} {step}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_somebody_changed_between_look_and_write_stays() {
    for slug in ["data-factory", "aks-kms-etcd", "fhir-service", "dicom-service"] {
        meddled(slug, "configure-service").await;
    }
    meddled("aks-kms-etcd", "attach-identity").await;
}

#[test]
fn a_type_that_is_written_whole_and_has_an_etag_says_where() {
    // The others have none. Source: the published types.
    let without = [
        "databricks-managed-services",
        "databricks-managed-disks",
        "databricks-dbfs-root",
        "event-hubs-namespace",
        "service-bus-namespace",
    ];
    let merged = |d: &ServiceDescriptor| d.configure.iter().any(|w| w.method == cmk::services::Method::MergePut);
    for service in ALL.iter().filter(|d| merged(d)) {
        let told = service.etag.is_some() || service.put_members.top.iter().any(|m| m == "etag");
        assert_eq!(told, !without.contains(&service.slug.as_str()), "{}", service.slug);
    }
}

/// A published type, as far as it can be followed here.
struct Published(Value);

enum Shape<'s> {
    Members(&'s Map<String, Value>, &'s Value),
    Items(&'s Value),
}

impl Published {
    fn read(service: &ServiceDescriptor, way: &str) -> Option<Self> {
        let folder = std::env::var("ARM_SCHEMAS").unwrap_or_else(|_| "../shared/azure/schemas".to_owned());
        let file = format!("{folder}/{}@{}.{way}.json", service.arm_type.replace('/', "_"), service.api_version);
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
        Some(Self(serde_json::from_str(&std::fs::read_to_string(path).ok()?).expect("a schema is JSON")))
    }

    fn shape<'s>(&'s self, mut schema: &'s Value) -> Option<Shape<'s>> {
        while let Some(reference) = schema["$ref"].as_str() {
            schema = self.0.pointer(reference.strip_prefix('#')?)?;
        }
        if let Some(any) = schema["anyOf"].as_array() {
            return any.iter().find_map(|one| self.shape(one));
        }
        match schema["type"].as_str()? {
            "object" => Some(Shape::Members(schema["properties"].as_object()?, &schema["additionalProperties"])),
            "array" => Some(Shape::Items(&schema["items"])),
            _ => None,
        }
    }
}

/// What can be read and not written, below a member that can be both. A type may hold itself, so the way down has an end.
fn read_only(
    read: (&Published, &Value),
    write: (&Published, &Value),
    path: &str,
    depth: u8,
    found: &mut BTreeSet<String>,
) {
    let down = |r: &Value, w: &Value, name: &str, found: &mut BTreeSet<String>| {
        read_only((read.0, r), (write.0, w), &format!("{path}/{name}"), depth + 1, found);
    };
    match (read.0.shape(read.1), write.0.shape(write.1)) {
        _ if depth > 8 => {}
        (Some(Shape::Items(r)), Some(Shape::Items(w))) => down(r, w, "*", found),
        (Some(Shape::Members(r, more_r)), Some(Shape::Members(w, more_w))) => {
            for (name, schema) in r {
                match w.get(name) {
                    Some(writable) => down(schema, writable, name, found),
                    None if *more_w == Value::Bool(false) => {
                        found.insert(format!("{path}/{name}"));
                    }
                    None => {}
                }
            }
            if more_r.is_object() && more_w.is_object() {
                down(more_r, more_w, "*", found);
            }
        }
        _ => {}
    }
}

#[test]
fn nothing_read_only_is_sent_back() {
    let merged = |d: &ServiceDescriptor| d.configure.iter().any(|w| w.method == cmk::services::Method::MergePut);
    for service in ALL.iter().filter(|d| merged(d)) {
        let (Some(read), Some(write)) = (Published::read(service, "read"), Published::read(service, "write")) else {
            continue;
        };
        let mut found = BTreeSet::new();
        for (names, at) in [(&service.put_members.top, ""), (&service.put_members.properties, "/properties")] {
            let below =
                |p: &Published| match p.shape(if at.is_empty() { &p.0 } else { &p.0["properties"]["properties"] }) {
                    Some(Shape::Members(members, _)) => members.clone(),
                    _ => panic!("{}: not an object", service.slug),
                };
            let (r, w) = (below(&read), below(&write));
            for name in names {
                let writable = w.get(name).unwrap_or_else(|| panic!("{}: {name} cannot be written", service.slug));
                let readable = r.get(name).unwrap_or(writable);
                read_only((&read, readable), (&write, writable), &format!("{at}/{name}"), 0, &mut found);
            }
        }
        let without: BTreeSet<String> = service.put_members.without.iter().cloned().collect();
        assert_eq!(without, found, "{}: putMembers.without", service.slug);
    }
}

#[test]
fn what_is_read_only_below_a_writable_member_is_left_out() {
    let service = find("aks-kms-etcd").expect("it is in the catalogue");
    let read = json!({
        "id": "/x", "location": "uksouth", "tags": null,
        "properties": {
            "provisioningState": "Succeeded",
            "agentPoolProfiles": [{ "name": "a", "eTag": "1", "count": 3 }, { "name": "b", "status": { "provisioningError": {} } }],
            "addonProfiles": { "azurepolicy": { "enabled": true, "identity": { "clientId": "c" } } },
        },
    });
    let want = json!({
        "location": "uksouth",
        "properties": {
            "agentPoolProfiles": [{ "name": "a", "count": 3 }, { "name": "b", "status": {} }],
            "addonProfiles": { "azurepolicy": { "enabled": true } },
        },
    });
    assert_eq!(service.sent_back(&read), want);
}
