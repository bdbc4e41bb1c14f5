//! Whether each kernel that may be booted has the modules that services need: `modprobe --show-depends`.

use crate::{
    here::{self, Faults},
    service::Target,
};
use std::collections::BTreeSet;

/// Looks at every kernel in `/boot`: the next boot may start another than the one that runs.
pub(super) fn modules(target: &Target, modules: &BTreeSet<&str>, faults: &mut Faults) {
    let root = &target.root;
    let kernels =
        here::names(root, "boot").into_iter().filter_map(|name| Some(name.strip_prefix("vmlinuz-")?.to_owned()));
    for kernel in kernels {
        let hint = format!("apt-get install --reinstall linux-image-{kernel}; depmod {kernel}");
        if !here::is_there(root, &format!("lib/modules/{kernel}")) {
            faults
                .unacceptable(format!("the kernel {kernel} has no modules: /lib/modules/{kernel} is not there"), hint);
            continue;
        }
        for module in modules {
            if let Some(Err(why)) = loadable(target, &kernel, module) {
                let what = format!("the kernel {kernel} cannot load {module}, which a service needs: {why}");
                faults.unacceptable(what, &hint);
            }
        }
    }
}

/// `None` where it cannot be asked; the error is a sentence.
fn loadable(target: &Target, kernel: &str, module: &str) -> Option<Result<(), String>> {
    let args = ["--set-version", kernel, "--show-depends", module];
    let output = here::run(&target.root, "modprobe", &args, target.left())?.ok()?;
    if !output.status.success() {
        return Some(Err(output.complaint()));
    }
    // `insmod /lib/modules/…/nfsd.ko`, or `builtin nfsd`. What the index names may be gone all the same.
    let text = output.text();
    let files = text.lines().filter_map(|line| line.strip_prefix("insmod ")?.split(' ').next());
    let gone = files.map(str::to_owned).find(|file| !here::is_there(&target.root, file));
    Some(gone.map_or(Ok(()), |file| Err(format!("{file} is not there"))))
}
