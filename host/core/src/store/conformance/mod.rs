//! What every store must do, rule by rule. `conformance_tests!(make)` turns each rule into a test of its
//! own; [`differential`] compares two stores over random operations.

pub mod differential;
mod lab;
mod rules_access;
mod rules_answers;
mod rules_backlog;
mod rules_breaker;
mod rules_care;
mod rules_catalog;
mod rules_chain;
mod rules_claim;
mod rules_complete;
mod rules_configs;
mod rules_declare;
mod rules_deletion;
mod rules_fire;
mod rules_history;
mod rules_hosts;
mod rules_import;
mod rules_limits;
mod rules_outbox;
mod rules_quota;
mod rules_remembered;
mod rules_schedule;
mod rules_shared;
mod rules_state;
mod rules_vault;
mod rules_waiting;
mod scene;

pub use lab::{Lab, at, completion};
pub use rules_access::*;
pub use rules_answers::*;
pub use rules_backlog::*;
pub use rules_breaker::*;
pub use rules_care::*;
pub use rules_catalog::*;
pub use rules_chain::*;
pub use rules_claim::*;
pub use rules_complete::*;
pub use rules_configs::*;
pub use rules_declare::*;
pub use rules_deletion::*;
pub use rules_fire::*;
pub use rules_history::*;
pub use rules_hosts::*;
pub use rules_import::*;
pub use rules_limits::*;
pub use rules_outbox::*;
pub use rules_quota::*;
pub use rules_remembered::*;
pub use rules_schedule::*;
pub use rules_shared::*;
pub use rules_state::*;
pub use rules_vault::*;
pub use rules_waiting::*;
#[cfg(test)]
pub(crate) use scene::SetClock;
pub(crate) use scene::{NoGuests, register};

/// Hands all rules, and what else it was given, to another macro: the one list of them.
#[macro_export]
macro_rules! conformance_rules {
    ($then:path; $($more:tt)*) => {
        $then! { $($more)*;
            ids_order_by_insertion
            enqueue_decides_the_first_state
            enqueue_answers_each_item
            refuse_if_live_sees_the_same_batch
            claims_come_in_the_order_of_due_and_priority
            claims_take_only_the_wanted_types
            claims_need_a_living_host
            a_claim_carries_what_was_frozen
            a_request_key_is_used_once
            refusals_keep_no_answer
            answers_are_swept_after_a_day
            configs_are_created_once_for_a_key
            an_atomic_batch_is_all_or_nothing
            a_success_enqueues_its_chain
            a_chain_goes_on_in_the_trace_of_its_parent
            steps_follow_the_ends_they_name
            what_expires_together_chains_in_the_order_it_expired
            chains_are_frozen_at_enqueue
            a_target_is_enqueued_once
            a_missing_pointer_fails_the_child
            chains_obey_the_rules_of_the_target
            chains_have_a_depth
            a_deleted_config_chains_no_more
            chains_follow_a_host_lost_for_good
            children_share_the_bounds_of_their_task
            a_claim_finds_what_was_begun_before_it
            a_waiting_suspect_holds_up_no_other_key
            a_run_key_is_bounded_within_a_batch_and_across
            a_freed_run_key_lets_the_next_one_in
            a_freed_run_key_is_used_to_the_full
            run_keys_belong_to_a_tenant_and_a_backlog_blocks_nobody
            an_expired_execution_is_never_claimed
            tenants_take_turns
            weights_share_out_the_turns
            types_of_a_tenant_are_one_queue
            a_type_is_bounded
            a_tenant_is_bounded
            a_rate_is_a_bucket
            rates_are_by_key_and_tenant
            rates_and_run_keys_leave_nothing_unused
            a_key_with_both_bounds_uses_both
            an_enqueue_meets_an_empty_bucket
            waits_tell_the_bounds
            each_type_has_a_head_that_nothing_holds_up
            a_full_backlog_refuses
            a_full_backlog_voids_an_atomic_batch
            chains_meet_full_backlogs
            a_slot_that_meets_a_full_backlog_is_skipped
            a_slot_without_a_place_cancels_nothing
            a_cancel_below_a_lowered_cap_makes_no_room
            a_breaker_opens_probes_and_closes
            a_breaker_counts_what_breaks_in_a_row
            suspects_run_one_at_a_time
            a_success_is_recorded_whole
            a_failure_is_recorded_whole
            a_result_of_null_is_no_result
            stale_completions_write_nothing
            one_item_of_a_batch_may_be_stale
            each_of_a_large_batch_keeps_what_is_its_own
            a_retry_waits_and_runs_again
            a_retry_whose_cancel_was_asked_for_ends
            cancel_in_each_state
            a_success_beats_a_cancel
            cancel_of_a_foreign_tenant_finds_nothing
            waiting_executions_expire
            sweeping_moves_at_most_the_limit
            next_due_names_the_earliest
            releases_use_no_attempt
            a_release_may_wait
            releases_of_cancelled_and_orphaned_end
            progress_is_kept_and_guarded
            every_legal_move_happens_and_nothing_moves_an_ended_one
            incarnations_rise_and_end
            living_hosts_are_listed
            a_heartbeat_brings_cancels_and_the_epoch
            a_lone_host_waits_for_no_lease
            a_heartbeat_tells_what_waits
            an_end_names_its_execution
            take_over_gives_back_what_dead_hosts_ran
            a_host_lost_five_times_is_a_failure
            take_over_ends_what_was_cancelled
            a_failure_makes_an_alert_where_one_is_wanted
            a_heartbeat_tells_of_alerts
            a_streak_of_failures_makes_one_alert
            missed_slots_make_one_alert
            alerts_are_kept_until_they_are_settled
            firing_is_compare_and_set
            a_batch_of_orders_is_answered_one_by_one
            fires_later_than_now_are_scheduled
            a_skip_streak_grows_and_is_written_when_a_slot_fires
            another_reason_closes_the_streak
            an_order_may_skip_everything
            overlap_skip_queue_one_and_allow
            overlap_cancel_running_ends_and_asks
            made_up_slots_queue_one_behind_another
            due_schedules_come_most_overdue_first
            failures_in_a_row_pause_a_config
            s1_many_schedulers_fire_a_slot_once
            what_was_read_ahead_fires_as_it_is_by_then
            what_was_decided_ahead_is_decided_anew_if_need_be
            a_trigger_takes_its_task_as_it_is
            only_what_waits_for_time_wakes_the_scheduler
            s2_only_a_new_schedule_moves_the_anchor
            s3_jitter_start_and_end
            s4_missed_slots_follow_their_policy
            s6_overlap_rules_on_a_running_execution
            s7_made_up_slots_queue_up
            s8_a_trigger_is_never_skipped
            s9_paused_slots_are_one_row
            s10_a_retry_keeps_its_slot
            s11_dates
            s12_a_clock_set_back
            s13_new_zone_data
            slots_of_a_disabled_type_are_skipped
            why_tells_what_is_no_slot
            configs_are_kept_as_written
            created_configs_have_their_next_fire
            keys_are_unique_while_they_live
            updates_are_compare_and_set
            concurrent_updates_lose_nothing
            a_reanchor_writes_what_was_skipped
            configs_are_listed_by_filter_and_cursor
            a_declaration_is_written_whole
            a_declaration_that_fails_writes_nothing
            a_declaration_swaps_tasks_at_a_full_quota
            deleting_keeps_the_history
            deleting_may_take_the_history
            a_deleted_config_retries_no_more
            purging_goes_in_batches
            state_is_committed_with_success_only
            state_conflicts_write_nothing
            state_of_a_deleted_config_is_not_written
            operators_write_state
            versions_live_their_life
            a_type_that_nothing_uses_is_removed
            registering_again_replaces_grants
            grants_change_and_bring_nothing_back
            a_failed_version_drops_its_bytes
            types_are_listed_by_name
            a_shared_type_is_every_tenants_to_use
            a_name_is_a_tenants_or_shared
            bounds_of_a_shared_type_are_each_tenants
            quotas_meet_a_shared_type
            a_breaker_of_a_shared_type_is_the_tenants
            a_shared_type_in_use_stays
            one_of_very_many_lanes_is_found
            chains_meet_a_shared_type
            tenants_change_the_catalog
            executions_are_listed_by_filter_and_cursor
            what_happens_is_news
            logs_and_attempts_are_kept_in_order
            http_calls_are_kept_in_order
            what_ended_elsewhere_is_taken_in_once
            settings_of_a_type_are_kept
            secrets_are_kept_sealed
            secrets_are_sealed_anew_under_compare_and_set
            json_comes_back_equal
            instants_keep_their_microseconds
            tenants_do_not_see_each_other
            queue_counts_follow
            tenants_live_their_life
            a_deleted_tenant_leaves_nothing
            tokens_live_their_life
            tokens_belong_to_a_tenant_or_the_host
            heartbeats_bring_the_access_epoch
            the_audit_log_is_kept_in_order
            pruning_goes_by_age_and_end
            pruning_goes_in_steps
            pruning_keeps_the_newest_of_a_task
            retention_is_kept_with_its_owner
            rounds_of_care_are_taken_once
            the_caretaker_keeps_to_every_level
            usage_counts_every_attempt_once
            quotas_are_kept_and_counted
            starts_are_counted_by_the_minute
            fuel_of_the_day_is_reserved_and_given_back
            memory_is_shared_out_in_turn
            tasks_and_plugins_are_counted
            state_is_counted_over_all_tasks
            the_oldest_history_goes_beyond_its_quota
            a_dry_run_counts_what_goes_once
        }
    };
}

/// Makes one `#[tokio::test]` of each rule. `$make` is an async function that returns an empty store as
/// `Arc<dyn Store>` and a guard that is dropped after it.
#[macro_export]
macro_rules! conformance_tests {
    (@each $make:path; $($rule:ident)*) => {
        $(
            #[tokio::test]
            async fn $rule() {
                let (store, _guard) = $make().await;
                $crate::store::conformance::$rule(store).await;
            }
        )*
    };
    ($make:path) => {
        $crate::conformance_rules! { $crate::conformance_tests; @each $make }
    };
}

/// A rule, as [`all`] lists it.
pub type Rule =
    fn(std::sync::Arc<dyn crate::store::Store>) -> futures_util::future::BoxFuture<'static, ()>;

macro_rules! listed {
    (; $($rule:ident)*) => {
        /// Every rule by name, for stores whose surroundings are too costly for a test each.
        pub fn all() -> Vec<(&'static str, Rule)> {
            vec![$((stringify!($rule), (|store| Box::pin($rule(store))) as Rule)),*]
        }
    };
}
crate::conformance_rules! { listed; }
