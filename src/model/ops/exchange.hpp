/// What one GPU does for a dispatch or combine, links apart: its SMs load and store every copy.
#pragma once

#include "model/operations/operation.hpp"
#include "model/specs/calibration.hpp"

namespace pipecast {

/// SM time of an exchange and what it takes however few the tokens.
struct ExchangeWork {
  Duration start;    ///< launch, synchronisation of the group
  Duration filling;  ///< until the second half of the SMs has what the first sent, whatever paces
  Duration moving;   ///< copies through the SMs, both halves at work
};

/// Cost through S SMs, half of which send and half receive:
///   dispatch: W = tokens * t + G * k + (G + r N) * copy / b,
///   combine:  W = (G + s T + 2 r N) * copy / b,
///   moving = W / S,  filling = W / T * (f + c T / (c S + T)),
/// with T tokens, G copies to GPUs and N to nodes; t and k read routing and bookkeeping, b is what
/// an SM moves, r what a copy through the NIC costs, s the sum of a token. A combine adds copies up
/// where they leave a node, hence twice r. The halves work at once but for the first chunk, c
/// tokens an SM: of 1 + T / (c S) chunks the receivers have one to go when the senders are done; a
/// single chunk passes one half after the other. f tokens' time goes by until the first token has
/// passed its thread block, which keeps several under way to hide that.
/// @param sms  > 0
/// Source: DeepEP's normal kernels; the form is ours, fitted on traces/h100/deepep_normal_*.csv.
/// Not modelled: links; the queues' capacities; unequal shares of channels; that starts on more
/// nodes take up to 12 us longer.
ExchangeWork exchange_work(const ExchangeShape& shape, const CommunicationConstants& constants,
                           int sms);

/// Bytes through the HBM of one GPU that exchanges as much as its peers: a copy to a node is
/// written to and read from the sender's buffer, written to and read from the forwarder's; a copy
/// to a GPU is written to and read from the receiver's buffer, and its token written to the output
/// (combine: read from the input, which is as much); every own token is read (written) once.
/// Source: the buffers of DeepEP's normal kernels. Not modelled: buffers that stay in L2.
Bytes staged_bytes(const ExchangeShape& shape);

}  // namespace pipecast
