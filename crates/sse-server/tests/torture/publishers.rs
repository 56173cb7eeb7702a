//! The publishers: event generators with a record.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::Context as _;
use sse_proto::record::Sent;

use crate::{
    plan::PublisherPlan,
    processes::{Output, Process},
    proxy::Link,
    records::{self, Known, ReadAlong},
};

const STOP_WITHIN: Duration = Duration::from_secs(20);

/// A running generator.
#[derive(Debug)]
pub(crate) struct Publisher {
    pub(crate) plan: PublisherPlan,
    pub(crate) link: Option<Link>,
    process: Process,
    record: PathBuf,
    read_along: ReadAlong,
}

impl Publisher {
    /// Starts a generator. With a `count` the generator ends by itself after `count` events.
    pub(crate) async fn start(
        plan: &PublisherPlan,
        node_port: u16,
        files: &Path,
        count: Option<u32>,
    ) -> anyhow::Result<Self> {
        let link = if plan.proxied {
            Some(Link::open(node_port, None).await?)
        } else {
            None
        };
        let url = link
            .as_ref()
            .map_or_else(|| format!("http://127.0.0.1:{node_port}"), Link::url);
        let (record, statuses) = (
            files.with_extension("sent"),
            files.with_extension("statuses"),
        );
        let mut command = Command::new(crate::programs::generator());
        command.args([
            "--url",
            &url,
            "--channel",
            plan.channel,
            "--actions",
            plan.kind,
            "--print-status=true",
            // The checker finds events of unknown outcome by their stamps.
            "--stamp",
        ]);
        command.args(["--batch", &plan.batch.to_string()]);
        command
            .args(["--rate", &plan.rate.to_string()])
            .arg("--record")
            .arg(&record);
        if let Some(count) = count {
            command.args(["--count", &count.to_string()]);
        }
        let name = format!("publisher of {} to {}", plan.kind, plan.channel);
        let process = Process::start(
            &name,
            command,
            &files.with_extension("log"),
            &Output::File(&statuses),
        )?;
        let read_along = ReadAlong::new(record.clone(), statuses);
        Ok(Self {
            plan: plan.clone(),
            link,
            process,
            record,
            read_along,
        })
    }

    /// Returns the progress so far.
    pub(crate) fn known(&mut self) -> Known {
        self.read_along.look()
    }

    /// Returns the name for the report.
    pub(crate) fn name(&self) -> &str {
        &self.process.name
    }

    /// Returns a message if the generator has ended by itself.
    pub(crate) fn trouble(&mut self) -> Option<String> {
        let status = self.process.ended()?;
        Some(format!(
            "the {} ended by itself ({status})",
            self.process.name
        ))
    }

    /// Waits for the end of a generator with a count.
    pub(crate) async fn end(&mut self) -> anyhow::Result<()> {
        let ended = crate::processes::until(STOP_WITHIN, async || self.process.ended()).await;
        ended
            .with_context(|| format!("the {} does not end", self.process.name))
            .map(drop)
    }

    /// Stops the generator; requests in flight get an outcome.
    pub(crate) async fn stop(&mut self) -> anyhow::Result<()> {
        if self.process.ended().is_none() {
            self.process.stop(STOP_WITHIN).await?;
        }
        Ok(())
    }

    /// Returns the generator's whole record.
    pub(crate) fn sent(&self) -> anyhow::Result<impl Iterator<Item = anyhow::Result<Sent>>> {
        records::lines(&self.record)
    }
}
