// What Humanoid and HumanoidStandup observe and report beside positions and velocities.
#pragma once

#include <algorithm>

#include "envs/task.h"

namespace tom::envs {

class HumanoidBody {
 public:
  HumanoidBody(const mjModel* m, const Arguments& args)
      : nbody_(static_cast<int>(m->nbody)),
        nv_(static_cast<int>(m->nv)),
        ntendon_(static_cast<int>(m->ntendon)),
        cinert_(args.flag("include_cinert_in_observation")),
        cvel_(args.flag("include_cvel_in_observation")),
        actuator_(args.flag("include_qfrc_actuator_in_observation")),
        contact_(args.flag("include_cfrc_ext_in_observation")) {}

  int ntendon() const { return ntendon_; }

  int observation_size() const {
    const int bodies = nbody_ - 1;  // without the world
    return bodies * (10 * cinert_ + 6 * cvel_ + 6 * contact_) + joints() * actuator_;
  }

  void observe(const mjData* d, double* out) const {
    if (cinert_) out = std::copy(d->cinert + 10, d->cinert + 10 * nbody_, out);
    if (cvel_) out = std::copy(d->cvel + 6, d->cvel + 6 * nbody_, out);
    if (actuator_) out = std::copy_n(d->qfrc_actuator + nv_ - joints(), joints(), out);
    if (contact_) std::copy(d->cfrc_ext + 6, d->cfrc_ext + 6 * nbody_, out);
  }

  double* write_tendons(const mjData* d, double* out) const {
    out = std::copy_n(d->ten_length, ntendon_, out);
    return std::copy_n(d->ten_velocity, ntendon_, out);
  }

  double contact_square_sum(const mjData* d) const { return square_sum(d->cfrc_ext, 6 * nbody_); }

 private:
  // Velocities without the six of the free body; none where a model has fewer than these.
  int joints() const { return std::max(nv_ - 6, 0); }

  const int nbody_, nv_, ntendon_;
  const bool cinert_, cvel_, actuator_, contact_;
};

}  // namespace tom::envs
