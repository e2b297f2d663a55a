/// Flows taken together as jobs: what each port carries, not which flow carries it.
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "sim/network/shared_links.hpp"
#include "sim/network/transfer_plan.hpp"
#include "sim/network/transfers.hpp"

namespace pipecast {

/// Flows that start together and are complete together. Progress counts bytes of its most loaded
/// port; other ports move in proportion.
struct TransferJob {
  std::vector<FlowIndex> flows;
  std::vector<SharedLinks::Use> ports;   ///< bytes on a port per unit of progress
  double work = 0;                       ///< bytes of the most loaded port
  double weight = 1;                     ///< against other jobs on a port
  std::vector<SharedLinks::Fade> fades;  ///< of the weight, as its smaller flows are done
  double alone_s = 0;  ///< time of the transfer by itself: the largest port load over bandwidth
};

/// Every flow by itself, in the order of the plan.
std::vector<TransferJob> jobs_of_flows(const TransferPlan& plan);

/// Flows of one group at the same depth of waiting are one job, lone flows one each; ordered by
/// depth, groups first.
/// @param depth  of every flow: the length of the longest chain of flows that it waits for
///
/// A job of several flows starts when all that they wait for is complete. Exact where the flows
/// of a collective advance in step (a balanced ring); where they do not, it is late.
///
/// By flow, a job counts with the flows of its most loaded port that are not done yet if that port
/// serves them at equal rates; by job, with the largest weight of its flows.
/// Not modelled: that lightly loaded ports of a job are done before the most loaded one.
std::vector<TransferJob> jobs_of_groups(const TransferPlan& plan,
                                        std::span<const std::uint32_t> depth,
                                        Arbitration arbitration);

/// When a job starts, and what holds it back besides the links.
struct JobTiming {
  double ready_s = 0;  ///< of the first flow with bytes, or of the last if none has any
  double most_rate = std::numeric_limits<double>::infinity();  ///< work a second
};

/// The closed form of a collective whose flows become ready one after the other: a port is done at
/// the latest, over the ready times r of its flows, of r + the bytes that become ready at r or
/// later over its bandwidth; before that it had work without a pause. Progress is held to the rate
/// that gives this time when the job is alone.
/// @param arrived_s  when all that the flows wait for is complete
JobTiming job_timing(const TransferPlan& plan, const TransferJob& job, double arrived_s);

}  // namespace pipecast
