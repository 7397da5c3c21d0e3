//! From a line of `tarn-volume run` to the status of a CacheVolume. Pure.

use serde::Deserialize;
use serde_json::{Value, json};

/// What `tarn-volume run` tells, as far as it is passed on.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Told {
    place: Option<Place>,
    volumes: Vec<Volume>,
    doing: Option<String>,
    conditions: Vec<Wait>,
    pub(super) last_error: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Place {
    Host,
    Volume(String),
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Volume {
    id: String,
    size_gib: Option<u32>,
    used_bytes: Option<u64>,
    staged: Option<Staged>,
}

#[derive(Debug, Clone, Deserialize)]
struct Staged {
    files: u64,
    bytes: u64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wait {
    volume: Option<String>,
    message: String,
    needs_a_person: bool,
}

impl Told {
    /// The status at `now`. A condition that is as `earlier` keeps the time of its last change.
    pub(super) fn status(&self, earlier: &Value, now: &str) -> Value {
        let serving = match &self.place {
            Some(Place::Volume(id)) => Some(id),
            Some(Place::Host) | None => None,
        };
        // While none serves, the one that is on its way.
        let volume = match serving {
            Some(id) => self.volumes.iter().find(|volume| volume.id == *id),
            None => self.volumes.first(),
        };
        let staged = volume.and_then(|volume| volume.staged.as_ref());
        let place = self.place.as_ref().map(|place| match place {
            Place::Host => "Host",
            Place::Volume(_) => "Volume",
        });
        let fields = [
            ("place", json!(place)),
            ("volumeId", json!(serving.or(volume.map(|volume| &volume.id)))),
            ("sizeGib", json!(volume.and_then(|volume| volume.size_gib))),
            ("usedBytes", json!(volume.and_then(|volume| volume.used_bytes))),
            ("stagedFiles", json!(staged.map(|staged| staged.files))),
            ("stagedBytes", json!(staged.map(|staged| staged.bytes))),
            ("doing", json!(self.doing)),
            ("lastError", json!(self.last_error)),
            ("conditions", json!(self.conditions(serving, earlier, now))),
        ];
        // What is not said any more is taken away by the API.
        let known = fields.into_iter().filter(|(_, value)| !value.is_null());
        known.map(|(name, value)| (name.to_owned(), value)).collect()
    }

    fn conditions(&self, serving: Option<&String>, earlier: &Value, now: &str) -> Vec<Value> {
        let said = |person: bool| {
            let waits = self.conditions.iter().filter(|wait| wait.needs_a_person || !person);
            let texts = waits.map(|wait| match &wait.volume {
                Some(volume) => format!("{volume}: {}", wait.message),
                None => wait.message.clone(),
            });
            texts.collect::<Vec<_>>().join("; ")
        };
        let (wanted, ready) = match serving {
            Some(id) => {
                (said(true), condition("Ready", "True", "VolumeServes", &format!("mounts cache on {id}")))
            }
            None => {
                let why = Some(said(false)).filter(|text| !text.is_empty());
                let why = why.or(self.last_error.clone()).or(self.doing.clone()).unwrap_or_default();
                let ready = match self.place {
                    Some(_) => condition("Ready", "False", "HostServes", &why),
                    None => condition("Ready", "Unknown", "NothingSaidYet", &why),
                };
                (said(true), ready)
            }
        };
        let person = match wanted.as_str() {
            "" => condition("NeedsPerson", "False", "NothingToDo", ""),
            text => condition("NeedsPerson", "True", "SomethingToDo", text),
        };
        [ready, person].into_iter().map(|condition| dated(condition, earlier, now)).collect()
    }
}

fn condition(kind: &str, status: &str, reason: &str, message: &str) -> Value {
    json!({ "type": kind, "status": status, "reason": reason, "message": message })
}

/// Adds since when it is so.
fn dated(mut condition: Value, earlier: &Value, now: &str) -> Value {
    let all = earlier.get("conditions").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let same = |other: &&Value| ["type", "status"].iter().all(|name| other.get(name) == condition.get(name));
    let since = all.iter().find(same).and_then(|other| other.get("lastTransitionTime")).cloned();
    condition["lastTransitionTime"] = since.unwrap_or_else(|| json!(now));
    condition
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEGIN: &str = r#"{"place":"host","volumes":[],"doing":null,"conditions":[
        {"volume":null,"reason":"cloud-away","message":"EC2 does not answer","needsAPerson":false,"until":9}],"lastError":"denied"}"#;
    const SERVES: &str = r#"{"place":{"volume":"vol-00000001"},"volumes":[
        {"id":"vol-00000002","sizeGib":1,"usedBytes":null,"staged":null},
        {"id":"vol-00000001","sizeGib":100,"usedBytes":7,"staged":{"files":1,"bytes":3}}],
        "doing":"grow vol-00000001","conditions":[
        {"volume":"vol-00000001","reason":"at-ceiling","message":"full","needsAPerson":true,"until":9},
        {"volume":"vol-00000001","reason":{"held":{"action":"modify","volume":null}},"message":"held","needsAPerson":false,"until":9}],
        "lastError":null}"#;

    fn status(line: &str, earlier: &Value, now: &str) -> Value {
        serde_json::from_str::<Told>(line).expect("a status").status(earlier, now)
    }

    #[test]
    fn without_a_volume_it_says_why() {
        let status = status(BEGIN, &Value::Null, "t1");
        assert_eq!((&status["place"], status.get("volumeId")), (&json!("Host"), None));
        let ready = &status["conditions"][0];
        assert_eq!((&ready["type"], &ready["status"]), (&json!("Ready"), &json!("False")));
        assert_eq!(
            (&ready["message"], &ready["lastTransitionTime"]),
            (&json!("EC2 does not answer"), &json!("t1"))
        );
        assert_eq!(status["conditions"][1]["status"], "False");
        let silent = r#"{"place":null,"volumes":[],"doing":null,"conditions":[],"lastError":"denied"}"#;
        assert_eq!(self::status(silent, &Value::Null, "t1")["conditions"][0]["message"], "denied");
    }

    #[test]
    fn a_volume_that_serves_is_described_and_what_needs_a_person_is_told() {
        let status = status(SERVES, &Value::Null, "t1");
        assert_eq!((&status["place"], &status["volumeId"]), (&json!("Volume"), &json!("vol-00000001")));
        assert_eq!((&status["sizeGib"], &status["usedBytes"]), (&json!(100), &json!(7)));
        assert_eq!((&status["stagedFiles"], &status["stagedBytes"]), (&json!(1), &json!(3)));
        let [ready, person] = [0, 1].map(|at| &status["conditions"][at]);
        assert_eq!((&ready["status"], &ready["reason"]), (&json!("True"), &json!("VolumeServes")));
        assert_eq!((&person["status"], &person["message"]), (&json!("True"), &json!("vol-00000001: full")));
    }

    #[test]
    fn a_condition_keeps_its_time_until_it_changes() {
        let first = status(BEGIN, &Value::Null, "t1");
        let second = status(BEGIN, &first, "t2");
        assert_eq!(first["conditions"], second["conditions"]);
        let third = status(SERVES, &second, "t3");
        assert_eq!(third["conditions"][0]["lastTransitionTime"], "t3");
    }
}
