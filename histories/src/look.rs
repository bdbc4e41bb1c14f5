//! The disks of a server as the product's procedure sees them: some may be late, and md may have begun before it.

use crate::{event::Trouble, world::Mask, world::World};
use atlas_boot::decide::{self, Disks, Found};
use atlas_host::arrivals::Arrivals;
use atlas_model::{Acceptance, Refusal, survey::Survey};
use std::time::Duration;

/// When a disk appears of which the controller had said that there is more to come, and one of which nothing had said so.
const ANNOUNCED: Duration = Duration::from_millis(2_200);
const UNANNOUNCED: Duration = Duration::from_millis(150);
/// How long missing disks are waited for.
const WAIT: Duration = Duration::from_secs(10);
/// A pause may be longer than was asked for: fewer looks are the harder case, and take less time.
const PAUSE: Duration = Duration::from_millis(900);
/// How often a boot decides anew because the disks changed.
const TRIES: usize = 5;

/// What a server's boot meets.
pub(crate) struct Bench<'w> {
    pub(crate) world: &'w World,
    pub(crate) disks: Mask,
    pub(crate) trouble: Trouble,
    /// What md started by itself.
    pub(crate) started: Mask,
    pub(crate) now: Duration,
}

impl Bench<'_> {
    fn present(&self) -> Mask {
        let late = match self.trouble {
            Trouble::Slow(disk) if self.now < ANNOUNCED => 1 << disk,
            Trouble::Silent(disk) if self.now < UNANNOUNCED => 1 << disk,
            _ => 0,
        };
        self.disks & !late
    }

    /// As a boot does: decides, and looks again before it writes.
    pub(crate) fn decide(&mut self, acceptance: Option<&Acceptance>) -> Result<Found, Refusal> {
        for _ in 0..TRIES {
            let found = decide::find(self, acceptance, WAIT)?;
            if decide::confirm(self, &found)? {
                return Ok(found);
            }
        }
        panic!("disks that are all there do not come to rest")
    }
}

impl Disks for Bench<'_> {
    fn arrivals(&mut self) -> Arrivals {
        let present = self.present();
        let is_announced = matches!(self.trouble, Trouble::Slow(_)) && present != self.disks;
        Arrivals {
            present: (0..8).filter(|disk| present & 1 << disk != 0).map(|disk| format!("disk {disk}")).collect(),
            pending: is_announced.then(|| "a controller".to_owned()).into_iter().collect(),
        }
    }

    fn survey(&mut self) -> Result<Survey, Refusal> {
        Ok(self.world.survey(self.present()))
    }

    fn clear(&mut self, _: &Survey) -> Vec<String> {
        let line = (self.started != 0).then(|| "an array was stopped".to_owned());
        self.started = 0;
        line.into_iter().collect()
    }

    fn now(&self) -> Duration {
        self.now
    }

    fn pause(&mut self, time: Duration) {
        // Not beyond the moment that a late disk needs to be missed.
        self.now += if time < PAUSE && self.now > UNANNOUNCED { PAUSE } else { time };
    }

    fn say(&mut self, _: &str) {}
}
