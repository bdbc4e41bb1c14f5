//! Faults of early boot that no disk has in it: a script that runs before everything in the initramfs, and changes what is in there.
//!
//! ```text
//! initrd   cpio: /fault · the server's own initramfs        rdinit=/fault ─► breaks something ─► exec /init
//! ```

use anyhow::{Context as _, Result, bail};

use crate::{Archive, Boot, Context, Server};

/// What is wrong with the initramfs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// It was made before `atlas init`: nothing is held in early boot. This is how a frame of early boot can be seen at all.
    Unmarked,
    /// atlas-boot is not in it.
    Missing,
    /// atlas-boot is killed as soon as it runs.
    Killed,
    /// atlas-boot does nothing for 20 s, and then is ended by somebody.
    Hung,
}

impl Fault {
    /// What the console says where the fault was there.
    pub(super) fn sign(self) -> &'static str {
        match self {
            Fault::Unmarked => "fault: the mark of atlas init was removed",
            Fault::Missing => "fault: atlas-boot was removed",
            Fault::Killed => "fault: atlas-boot is killed",
            Fault::Hung => "fault: atlas-boot hangs",
        }
    }

    /// Shell commands that make it so, in the initramfs.
    fn script(self) -> String {
        let program = "/usr/lib/atlas/atlas-boot";
        let instead = |what: &str| {
            format!(
                "mv {program} {program}.real\n\
                 printf '%s\\n' '#!/bin/sh' '[ \"$1\" = boot ] || exec {program}.real \"$@\"' \
                 'echo \"{}\" > /dev/console' '{what}' > {program}\nchmod 755 {program}",
                self.sign()
            )
        };
        match self {
            Fault::Unmarked => format!("rm /etc/atlas/initialised && echo '{}'", self.sign()),
            Fault::Missing => format!("rm {program} && echo '{}'", self.sign()),
            Fault::Killed => instead("kill -9 $$"),
            Fault::Hung => instead("sleep 20; exit 1"),
        }
    }
}

/// From now on the server boots with the fault.
pub(super) fn put(ctx: &Context, server: &mut Server, fault: Fault) -> Result<()> {
    let path = ctx.scratch().join(format!("{}-fault", server.name()));
    let Boot::Kernel { initrd, append, .. } = &mut server.boot else { bail!("it boots from its first disk") };
    let mut archive = Archive::default();
    archive.file("fault", 0o755, format!("#!/bin/sh\n{}\nexec /init\n", fault.script()).as_bytes());
    archive.write(&path)?;
    let mut whole = std::fs::read(&path)?;
    whole.extend(std::fs::read(&*initrd).with_context(|| format!("reading {}", initrd.display()))?);
    std::fs::write(&path, whole)?;
    *initrd = path;
    append.push_str(" rdinit=/fault");
    Ok(())
}
