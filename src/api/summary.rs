//! A job in one or two sentences, for a chat message or a table.
//!
//! What belongs here: those sentences. What does not: anything that depends on the time of asking; the text is covered
//! by the job's ETag.

use crate::domain::job::JobState;
use crate::store::Job;

/// The longest summary, in characters.
pub(super) const MAX_SUMMARY: usize = 280;

/// What is happening: plain text, no line breaks, the same in lists as for the single job.
pub(super) fn of(job: &Job) -> String {
    let (name, done, total) = (job.target.name(), job.steps_done, job.steps_total);
    let current = (done + 1).min(total);
    let text = match job.state {
        JobState::Queued => format!("{name}: queued, {done} of {total} steps done."),
        JobState::Running if job.cancel_requested_at.is_some() => {
            format!("{name}: stopping at the next safe point of step {current} of {total}.")
        }
        JobState::Running => format!("{name}: running step {current} of {total}."),
        JobState::Waiting => {
            let why = job.wait_reason.as_ref().map_or("it looks again later", |r| r.text.as_str());
            format!("{name}: waiting in step {current} of {total}: {why}")
        }
        JobState::Succeeded => match &job.facts.evidence {
            Some(evidence) => format!("{name} uses {}; proved by reading it back.", evidence.key_id),
            None => format!("{name}: succeeded."),
        },
        JobState::Failed => match &job.failure {
            Some(failure) => format!("{name}: failed in step {current} of {total}, {failure}"),
            None => format!("{name}: failed in step {current} of {total}."),
        },
        JobState::Cancelled => format!("{name}: cancelled after {done} of {total} steps; what exists stays."),
    };
    shorten(&text)
}

fn shorten(text: &str) -> String {
    let mut short: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_SUMMARY).collect();
    if text.chars().count() > MAX_SUMMARY {
        short.pop();
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::examples::job_in;
    use crate::domain::codes::Code;
    use crate::domain::failure::Failure;

    #[test]
    fn every_state_has_its_sentence() {
        for (state, text) in [
            (JobState::Queued, "stcmkdemo1: queued, 0 of 10 steps done."),
            (JobState::Running, "stcmkdemo1: running step 5 of 10."),
            (JobState::Waiting, "stcmkdemo1: waiting in step 7 of 10: "),
            (JobState::Succeeded, "stcmkdemo1 uses https://kvcmkdemo1.vault.azure.net/keys/sa-cmk-key/"),
            (JobState::Failed, "stcmkdemo1: failed in step 7 of 10, access-timeout: "),
            (JobState::Cancelled, "stcmkdemo1: cancelled after 4 of 10 steps; what exists stays."),
        ] {
            let summary = of(&job_in(state));
            assert!(summary.starts_with(text), "{summary}");
            assert!(summary.chars().count() <= MAX_SUMMARY, "{summary}");
        }
    }

    #[test]
    fn long_and_many_lined_messages_are_tamed() {
        let mut job = job_in(JobState::Failed);
        job.failure = Some(Failure::new(Code::AzureRejected, "ü\r\n".repeat(400)));
        let summary = of(&job);
        assert_eq!(summary.chars().count(), MAX_SUMMARY);
        assert!(summary.ends_with('…') && !summary.contains(['\r', '\n']));
    }
}
