"""Environments whose actions steer another method, or are its weights."""

from .spec import EnvSpec

META = (
    EnvSpec(
        id="optenvs/GnsControl-v0",
        entry_point="optenvs.envs.meta.gns_control:GnsControl",
        family="meta",
        oracles=("trial",),
        summary="The radius of gradient-regularised Newton steps on any landscape, as a learnable control",
        reference="Semenov, Jaggi, Doikov, Gradient-Normalized Smoothness, 2025, adaptive search",
    ),
    EnvSpec(
        id="optenvs/DacToySgd-v0",
        entry_point="optenvs.envs.meta.dac.toy_sgd:DacToySgd",
        family="meta",
        oracles=("step",),
        summary="Learning rate and momentum of descent on functions of one number, at every step",
        reference="Eimer et al. 2021 (DACBench, arXiv 2105.08541), ToySGD",
    ),
    EnvSpec(
        id="optenvs/DacSgd-v0",
        entry_point="optenvs.envs.meta.dac.sgd:DacSgd",
        family="meta",
        oracles=("step",),
        summary="AdamW's learning rate, epoch by epoch, while a network is trained",
        reference="Eimer et al. 2021 (DACBench, arXiv 2105.08541), SGD",
        kwargs={"training": "optenvs/TrainDigits-v0"},
    ),
    EnvSpec(
        id="optenvs/Discovery-v0",
        entry_point="optenvs.envs.meta.discovery.discovery:Discovery",
        family="meta",
        oracles=("value", "gradient", "swarm"),
        summary="The weights of a rule of reinforcement learning, by what learners in grid worlds become",
        reference="Jackson et al. 2024 (arXiv 2402.05828); Oh et al. 2020 (LPG); Lu et al. 2022 (LPO)",
    ),
    EnvSpec(
        id="optenvs/GridWorldLifetime-v0",
        entry_point="optenvs.envs.meta.discovery.lifetime:GridWorldLifetime",
        family="meta",
        oracles=("rollout", "rates", "targets", "policy"),
        summary="The training of a reinforcement learner as an episode, by rates, update targets or policies",
        reference="Jackson et al. 2024 (arXiv 2402.05828); Oh et al. 2020 (arXiv 2007.08794)",
    ),
    EnvSpec(
        id="optenvs/GridWorld-v0",
        entry_point="optenvs.envs.meta.discovery.grid_world:GridWorld",
        vector_entry_point="optenvs.envs.meta.discovery.grid_world:GridWorldVector",
        family="meta",
        oracles=(),
        summary="A walker who collects objects in a grid world, with published levels and distributions",
        reference="Oh et al. 2020 (arXiv 2007.08794); Jackson et al. 2024 (arXiv 2402.05828)",
    ),
    EnvSpec(
        id="optenvs/MetaTraining-v0",
        entry_point="optenvs.envs.meta.meta_training:MetaTraining",
        family="meta",
        oracles=("value", "gradient", "swarm"),
        summary="The weights of a learned optimizer, trained on any family of tasks by any estimator",
        reference="Metz et al. 2020 (arXiv 2009.11243); Vicol, Metz, Sohl-Dickstein 2021 (PES)",
        kwargs={"tasks": "optenvs/Quadratic-v0", "rule": "lolv2"},
    ),
)
