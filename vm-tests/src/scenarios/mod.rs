//! The scenarios, in one table. A scenario tells a story with servers and disks, and asserts what is so inside the guests.

mod addresses;
mod bench;
mod cast;
mod controllers;
mod cycles;
mod cycles_in_trouble;
mod cycles_misled;
mod cycles_of_copies;
mod disks;
mod disks_lost;
mod failover;
mod fault;
mod gate;
mod headline;
mod hibernation;
mod identity;
mod init;
mod kexec;
mod latent;
mod mirror;
mod modules;
mod neighbours;
mod others_hands;
mod parts;
mod power_cuts;
mod refusals;
mod refused;
mod roots;
mod services;
mod silent_disks;
mod soft_reboot;
mod trio;
mod upkeep;
mod worn;

use crate::runner::{Scenario, Tier};

const fn vm(name: &'static str, act: fn(&crate::Context) -> anyhow::Result<()>) -> Scenario {
    Scenario { name, tier: Tier::Vm, act }
}

const fn long(name: &'static str, act: fn(&crate::Context) -> anyhow::Result<()>) -> Scenario {
    Scenario { name, tier: Tier::Long, act }
}

/// All there are, in the order in which they are run: the longest first, so that two at a time end together.
pub const SCENARIOS: &[Scenario] = &[
    long("three-debians-scenario-1", cycles::scenario_1),
    long("three-debians-scenario-2", cycles::scenario_2),
    long("three-debians-scenario-3", cycles::scenario_3),
    long("three-debians-in-trouble", cycles_in_trouble::act),
    long("nobody-sends-on-debian-11", gate::nobody_sends_on_debian_11),
    long("nobody-sends-on-debian-12", gate::nobody_sends_on_debian_12),
    long("nobody-sends-on-debian-13", gate::nobody_sends_on_debian_13),
    long("soft-reboot-is-decided-like-a-boot", soft_reboot::soft_reboot_is_decided_like_a_boot),
    long("hibernated-and-swapped", hibernation::hibernated_and_swapped),
    long("root-on-lvm-on-another-array", roots::lvm_on_md),
    long("root-on-btrfs", roots::btrfs),
    long("disks-on-another-controller", controllers::disks_on_another_controller),
    long("root-on-luks", roots::luks),
    long("root-beside-usr-and-var", roots::usr_and_var),
    long("root-on-an-overlay", roots::overlay),
    long("kexec-is-decided-like-a-boot", kexec::kexec_is_decided_like_a_boot),
    long("disks-silent-at-the-survey", silent_disks::at_the_survey),
    long("disks-silent-at-the-start", silent_disks::at_the_start),
    long("disks-silent-at-the-write-of-the-start", silent_disks::at_the_write_of_the_start),
    long("disks-silent-after-a-refusal", silent_disks::after_a_refusal),
    long("disks-silent-at-the-identity", silent_disks::at_the_identity),
    long("disks-silent-at-the-first-write", silent_disks::at_the_first_write),
    long("power-cuts-in-mid-cycle", power_cuts::act),
    long("latent-faults", latent::act),
    long("nothing-is-wrong-for-an-hour", latent::nothing_is_wrong_for_an_hour),
    long("standby-is-exercised", latent::standby_is_exercised),
    long("every-service-in-machines", services::every_service_in_machines),
    // What of these two a directory can show, the tests of the package show in every run, without an emulated package manager.
    long("kernel-upgrade-keeps-the-hook", upkeep::kernel_upgrade_keeps_the_hook),
    long("package-removed-leaves-nothing", upkeep::package_removed_leaves_nothing),
    long("init-survives-power-cuts", init::init_survives_power_cuts),
    // Refused by parsers and decisions that `model` tests in every run with these, too.
    long("refused-master-config-empty", refusals::master_config_empty),
    long("refused-master-config-binary", refusals::master_config_binary),
    long("refused-master-config-of-unknown-role", refusals::master_config_of_unknown_role),
    long("refused-master-config-cut-off", refusals::master_config_cut_off),
    long("refused-unknown-format", refusals::unknown_format),
    long("refused-ident-path-climbs-out", refusals::ident_path_climbs_out),
    long("refused-members-of-two-sets", refusals::members_of_two_sets),
    // A third of an hour on two quiet processors, most of it for three servers that are set up at once: too long for every run.
    long("three-debians-lose-their-pri", headline::three_debians_lose_their_pri),
    // On a machine with other work its servers are too busy to be called well: not for every run either.
    long("two-servers-lose-their-pri", headline::two_servers_lose_their_pri),
    vm("swap-and-back", failover::swap_and_back),
    vm("clone-beside-pri", addresses::clone_beside_pri),
    vm("disks-pulled-out", disks_lost::pulled_out),
    vm("disks-pulled-out-and-run-full", disks_lost::run_is_full),
    long("disks-pulled-out-and-keeper-stuck", disks_lost::keeper_is_stuck),
    vm("disks-pulled-out-and-card-given-away", disks_lost::card_in_a_namespace),
    vm("disks-every-path-fails", disks_lost::every_path_fails),
    vm("partners-address-twice", addresses::partners_address_twice),
    vm("address-of-a-vlan-in-use", addresses::address_of_a_vlan_in_use),
    vm("swap-after-power-cut", failover::swap_after_power_cut),
    vm("swap-of-a-degraded-set", failover::swap_of_a_degraded_set),
    vm("refused-until-accepted", failover::refused_until_accepted),
    vm("repaired-server-gets-its-own", worn::repaired_server_gets_its_own),
    vm("gate-networkd-and-a-late-card", gate::networkd_and_a_late_card),
    vm("gate-atlas-boot-killed", gate::atlas_boot_killed),
    vm("gate-initramfs-without-atlas", gate::initramfs_without_atlas),
    vm("clones-at-once", addresses::clones_at_once),
    vm("disks-no-path-answers", disks_lost::no_path_answers),
    vm("module-rolled-back", modules::crashing_version_is_rolled_back),
    vm("init-is-careful", init::init_is_careful),
    vm("debian-boots-healthy", parts::debian_boots_healthy),
    vm("refused-halves-written-apart", refusals::halves_written_apart),
    vm("identity-root-disk-full", identity::root_disk_full),
    vm("identity-converted-on-demand", identity::converted_on_demand),
    vm("identity-degraded-since-earlier", identity::degraded_since_earlier),
    vm("identity-below-a-mount-point", identity::below_a_mount_point),
    vm("identity-of-one-machine", identity::of_one_machine),
    vm("identity-from-scratch", identity::from_scratch),
    vm("refused-foreign-identity", worn::foreign_identity),
    vm("identity-converter-fails", identity::converter_fails),
    vm("identity-root-disk-read-only", identity::root_disk_read_only),
    vm("refused-file-system-beyond-mending", refusals::file_system_beyond_mending),
    vm("file-system-that-can-be-mended", refusals::file_system_that_can_be_mended),
    vm("refused-master-config-absent", refusals::master_config_absent),
    vm("refused-master-config-of-another-cluster", refusals::master_config_of_another_cluster),
    vm("refused-ident-path-through-a-link", refusals::ident_path_through_a_link),
    vm("other-arrays-work-as-before", neighbours::other_arrays_work_as_before),
    vm("hardware-raid", neighbours::hardware_raid),
    vm("root-disk-comes-late", others_hands::root_disk_comes_late),
    vm("second-half-comes-late", others_hands::second_half_comes_late),
    vm("resume-names-a-swap-that-is-gone", others_hands::resume_names_a_swap_that_is_gone),
    vm("assembled-by-hand-after-a-refusal", others_hands::assembled_by_hand_after_a_refusal),
    vm("array-line-in-the-initramfs", others_hands::array_line_in_the_initramfs),
    vm("disks-that-hide-half-a-mirror", disks::halves_that_hide_it),
    vm("disks-that-hold-luks", disks::luks_in_the_set),
    vm("disks-write-protected-and-a-stick", disks::write_protected_member_and_a_stick),
    vm("refused-no-set", refusals::no_set),
    vm("refused-two-sets", refusals::two_sets),
    Scenario { name: "content-moves-with-the-disk", tier: Tier::Fast, act: parts::content_moves_with_the_disk },
];
