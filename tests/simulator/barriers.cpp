// Where threads wait for each other, and the report of those that wait in vain.
#include <string>

#include "machine.h"

namespace svconv::simulate {
namespace {

std::string describe(const Thread& t) {
  const std::string place = std::string(" at ") + (t.site.file ? t.site.file : "?") + ":" + std::to_string(t.site.line);
  switch (t.state) {
    case State::ready: return "run";
    case State::at_block_barrier: return "wait for the block" + place;
    case State::at_warp_operation: {
      char mask[16];
      std::snprintf(mask, sizeof mask, "%08x", t.mask);
      return std::string("wait for lanes ") + mask + " of their warp" + place;
    }
    case State::exited: return "have exited";
  }
  return "";
}

bool same(Site a, Site b) { return a.line == b.line && std::strcmp(a.file, b.file) == 0; }

}  // namespace

void fail_divergent() {
  Machine& m = machine();
  std::fprintf(stderr, "simulator: threads diverge at a barrier, block (%u, %u, %u):\n", blockIdx.x, blockIdx.y,
               blockIdx.z);
  for (int first = 0; first < m.threads;) {
    const std::string text = describe(*m.pool[first]);
    int last = first;
    while (last + 1 < m.threads && describe(*m.pool[last + 1]) == text) ++last;
    std::fprintf(stderr, "  threads %d to %d %s\n", first, last, text.c_str());
    first = last + 1;
  }
  std::fflush(stderr);
  std::_Exit(3);
}

void block_barrier(Site site) {
  Machine& m = machine();
  Thread& t = *m.current;
  t.site = site;
  t.state = State::at_block_barrier;
  void* object = &m.meeting.object[m.meeting.count % 2];
  __tsan_release(object);
  if (++m.at_barrier == m.threads) {
    for (int i = 0; i < m.threads; ++i) {
      if (!same(m.pool[i]->site, site)) fail_divergent();
    }
    for (int i = 0; i < m.threads; ++i) m.pool[i]->state = State::ready;
    m.at_barrier = 0;
    m.votes_passed = m.votes;
    m.votes = 0;
    ++m.meeting.count;
  }
  suspend();
  __tsan_acquire(object);
}

int block_count(bool predicate, Site site) {
  machine().votes += predicate;
  block_barrier(site);
  return machine().votes_passed;
}

void exchange(unsigned mask, Site site, void* record, Perform perform) {
  Machine& m = machine();
  Thread& t = *m.current;
  const int first = t.number & ~31;
  Warp& warp = m.warps[first / 32];
  if ((mask >> (t.number & 31) & 1) == 0) fail(site, "the mask %08x leaves out the calling lane", mask);
  t.site = site;
  t.mask = mask;
  t.record = record;
  t.state = State::at_warp_operation;
  warp.waiting |= 1u << (t.number & 31);
  if ((warp.waiting & mask) == mask) {
    void* records[32] = {};
    for (int lane = 0; lane < 32; ++lane) {
      if ((mask >> lane & 1) == 0) continue;
      Thread& other = *m.pool[first + lane];
      if (other.mask != mask || !same(other.site, site)) fail_divergent();
      records[lane] = other.record;
    }
    perform(records, mask);
    for (int lane = 0; lane < 32; ++lane) {
      if (mask >> lane & 1) m.pool[first + lane]->state = State::ready;
    }
    warp.waiting &= ~mask;
    // The last to come may go on at once.
    if (m.order != Order::random) return;
  }
  suspend();
}

void warp_barrier(unsigned mask, Site site) {
  Machine& m = machine();
  Meeting& meeting = m.warps[m.current->number / 32].meetings[mask];
  void* object = &meeting.object[meeting.count % 2];
  __tsan_release(object);
  exchange(mask, site, &meeting, [](void* const* records, unsigned mask) {
    ++static_cast<Meeting*>(records[__builtin_ctz(mask)])->count;
  });
  __tsan_acquire(object);
}

}  // namespace svconv::simulate
