use super::*;
use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
};

/// A server's tree.
struct World {
    tmp: tempfile::TempDir,
}

impl World {
    fn new() -> World {
        World { tmp: tempfile::tempdir().unwrap() }
    }

    fn hook(&self, directory: &str, name: &str, script: &str) -> PathBuf {
        let path = self.tmp.path().join(HOOKS).join(directory).join(name);
        let content = if script.is_empty() { String::new() } else { format!("#!/bin/sh\n{script}\n") };
        atlas_host::testing::write_program(&path, &content);
        path
    }

    fn found(&self, point: Point, role: Role) -> Vec<String> {
        let found = find(self.tmp.path(), point, role).unwrap();
        found.into_iter().map(|(directory, name)| format!("{directory}/{}", name.display())).collect()
    }

    fn refused(&self) -> String {
        find(self.tmp.path(), Point::BeforeCreate, Role::Pri).unwrap_err().to_string()
    }
}

#[test]
fn hooks_are_those_of_the_point_and_the_role_in_the_order_of_names() {
    let world = World::new();
    assert_eq!(world.found(Point::BeforeCreate, Role::Pri), [""; 0]);
    world.hook("before-create", "20-all", "true");
    world.hook("before-create.PRI", "10-pri", "true");
    world.hook("before-create.SEC", "10-secs", "true");
    world.hook("before-create.SEC2", "30-sec2", "true");
    world.hook("after-create", "10-other", "true");
    assert_eq!(world.found(Point::BeforeCreate, Role::Pri), ["before-create.PRI/10-pri", "before-create/20-all"]);
    assert_eq!(world.found(Point::BeforeCreate, Role::Sec(1)), ["before-create.SEC/10-secs", "before-create/20-all"]);
    assert_eq!(world.found(Point::BeforeCreate, Role::Sec(2)).len(), 3);
}

#[test]
fn a_more_particular_hook_stands_in_for_a_general_one_or_switches_it_off() {
    let world = World::new();
    world.hook("after-cycle", "10-a", "true");
    world.hook("after-cycle", "20-b", "true");
    world.hook("after-cycle.PRI", "10-a", "true");
    world.hook("after-cycle.PRI", "20-b", "");
    assert_eq!(world.found(Point::AfterCycle, Role::Pri), ["after-cycle.PRI/10-a"]);
}

#[test]
fn what_is_no_hook_is_passed_over() {
    let world = World::new();
    for name in ["10-a.dpkg-old", ".10-a.swp", "10-a~"] {
        world.hook("before-create", name, "true");
    }
    let plain = world.hook("before-create", "20-plain", "true");
    fs::set_permissions(&plain, PermissionsExt::from_mode(0o644)).unwrap();
    assert_eq!(world.found(Point::BeforeCreate, Role::Pri), [""; 0]);
}

#[test]
fn a_hook_that_others_could_have_changed_is_refused() {
    let world = World::new();
    let hook = world.hook("before-create", "10-a", "true");
    for (path, mode) in [(hook.as_path(), 0o775), (hook.as_path(), 0o757), (hook.parent().unwrap(), 0o777)] {
        fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
        assert!(world.refused().contains("others than its owner may write"), "{mode:o}");
        fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
    }
    assert_eq!(world.found(Point::BeforeCreate, Role::Pri).len(), 1);
    if nix::unistd::geteuid().is_root() {
        std::os::unix::fs::chown(&hook, Some(1234), None).unwrap();
        assert!(world.refused().contains("does not belong to root"));
    }
    fs::remove_file(&hook).unwrap();
    symlink("/bin/true", &hook).unwrap();
    assert!(world.refused().contains("is a link"));
    fs::remove_dir_all(hook.parent().unwrap()).unwrap();
    symlink("/usr/bin", hook.parent().unwrap()).unwrap();
    assert!(find(world.tmp.path(), Point::BeforeCreate, Role::Pri).is_err());
}

/// Runs the hooks of a point in the tree, which gets a shell.
fn run_in_tree(world: &World, point: Point) -> Result<Vec<HookReport>, HookError> {
    let root = world.tmp.path();
    let shell = fs::canonicalize("/bin/sh").unwrap();
    fs::create_dir_all(root.join("bin")).unwrap();
    fs::copy(&shell, root.join("bin/sh")).unwrap();
    let listed = std::process::Command::new("ldd").arg(&shell).output().unwrap();
    for library in String::from_utf8(listed.stdout).unwrap().split_whitespace().filter(|word| word.starts_with('/')) {
        let place = root.join(&library[1..]);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::copy(library, place).unwrap();
    }
    run_within(root, point, Role::Sec(2), EnvVersion::OLDEST, Duration::from_secs(2))
}

#[test]
fn a_hook_learns_where_it_runs_and_what_it_says_is_in_the_report() {
    // A hook runs with the server's tree as its root directory, which needs root's rights or a namespace.
    if !atlas_host::testing::own_mounts("hooks::tests::a_hook_learns_where_it_runs_and_what_it_says_is_in_the_report") {
        return;
    }
    let world = World::new();
    world.hook("after-create", "10-a", "echo \"$ATLAS_POINT $ATLAS_ROLE $ATLAS_ENV_VERSION\"; echo heard >&2");
    world.hook("after-create", "20-b", "echo broken >&2; exit 4");
    world.hook("after-create", "30-c", "while :; do :; done");
    world.hook("after-create", "40-d", "true");
    let reports = run_in_tree(&world, Point::AfterCreate).unwrap();
    let outputs: Vec<&str> = reports.iter().map(|report| report.output.as_str()).collect();
    assert_eq!(outputs, ["after-create SEC2 1\nheard", "broken", "", ""]);
    let errors: Vec<Option<&str>> = reports.iter().map(|report| report.error.as_deref()).collect();
    assert!(errors[0].is_none() && errors[3].is_none(), "{errors:?}");
    assert!(errors[1].unwrap().contains("status: 4") && errors[2].unwrap().contains("did not end"), "{errors:?}");
}

#[test]
fn a_failure_before_a_step_is_the_end_of_it() {
    // A hook runs with the server's tree as its root directory, which needs root's rights or a namespace.
    if !atlas_host::testing::own_mounts("hooks::tests::a_failure_before_a_step_is_the_end_of_it") {
        return;
    }
    let world = World::new();
    world.hook("before-create", "10-a", "echo 'not now' >&2; exit 1");
    let after = world.hook("before-create", "20-b", "echo x > /ran");
    let error = run_in_tree(&world, Point::BeforeCreate).unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(error.to_string().contains("10-a") && cause.contains("not now"), "{error}: {cause}");
    assert!(after.exists() && !world.tmp.path().join("ran").exists());
}
