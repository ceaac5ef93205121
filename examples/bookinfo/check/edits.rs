//! Checks of the effects of configuration changes.

use std::time::{Duration, Instant};

use mesh::ConfigEvent;
use tokio::time::{sleep, timeout};

use super::{
    Outcome, Scene,
    requests::{all_from, succeeded},
};
use crate::visitor::Load;

/// Time within which an edit must have its effect.
const EFFECT_LIMIT: Duration = Duration::from_secs(1);

/// Time within which an edit must be reported. On a busy machine that may be later than its effect.
const REPORT_LIMIT: Duration = Duration::from_secs(5);

/// Under load, requests that are sent a second after an edit follow the new weights, and none fails.
pub(super) async fn weight_shifts_traffic(scene: &mut Scene) -> Outcome {
    let load = Load::start(scene.page());
    sleep(EFFECT_LIMIT / 2).await;
    let edited = Instant::now();
    scene.configuration.set_weights(["0", "0", "100"]).map_err(|error| error.to_string())?;
    sleep(EFFECT_LIMIT * 2).await;
    let visits = load.stop().await;

    succeeded(&visits)?;
    let later = visits.iter().filter(|visit| visit.at >= edited + EFFECT_LIMIT);
    let shifted = all_from("v3", later)?;
    let last_other = visits.iter().filter(|visit| visit.outcome.as_deref() != Ok("v3")).map(|visit| visit.at).max();
    let took = last_other.map_or(Duration::ZERO, |at| at.saturating_duration_since(edited));
    match next_outcome(scene).await? {
        ConfigEvent::Applied(_) => {
            Ok(format!("after {} ms, {shifted}, 0 of {} requests failed", took.as_millis(), visits.len()))
        }
        other => Err(other.to_string()),
    }
}

/// A weight that is not a number is reported with its position, and traffic is not affected.
pub(super) async fn broken_edit_changes_nothing(scene: &mut Scene) -> Outcome {
    let load = Load::start(scene.page());
    let line = scene.configuration.set_weights(["fifty", "30", "20"]).map_err(|error| error.to_string())?;
    let event = next_outcome(scene).await;
    sleep(EFFECT_LIMIT).await;
    let visits = load.stop().await;

    let ConfigEvent::Rejected(rejected) = event? else {
        return Err("it was applied".to_owned());
    };
    let report = rejected.to_string();
    for text in [format!("reviews.yaml:{line}:"), "weight".to_owned(), "fifty".to_owned()] {
        if !report.contains(&text) {
            return Err(format!("the report does not say {text}: {report}"));
        }
    }
    Ok(format!("reported at line {line}, {}", all_from("v3", &visits)?))
}

/// The next valid edit takes effect.
pub(super) async fn repair_applies(scene: &mut Scene) -> Outcome {
    scene.configuration.set_weights(["0", "100", "0"]).map_err(|error| error.to_string())?;
    match next_outcome(scene).await? {
        ConfigEvent::Applied(applied) => Ok(applied.changed.join(", ")),
        other => Err(other.to_string()),
    }
}

/// Waits for the outcome of an edit. That its files are valid is not an outcome yet.
async fn next_outcome(scene: &mut Scene) -> Result<ConfigEvent, String> {
    let outcome = async {
        while let Some(event) = scene.events.next().await {
            if !matches!(event, ConfigEvent::Accepted(_)) {
                return Ok(event);
            }
        }
        Err("the mesh has ended".to_owned())
    };
    match timeout(REPORT_LIMIT, outcome).await {
        Ok(outcome) => outcome,
        Err(_) => Err(format!("no word of the edit within {REPORT_LIMIT:?}")),
    }
}
