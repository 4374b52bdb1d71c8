# spack repo add slurm/packaging/spack && spack dev-build plumb@main   (in a checkout; not tried yet)
from spack.package import *


class Plumb(CMakePackage):
    """Fine-tunes and aligns language models on MPI clusters."""

    homepage = "https://plumb.invalid"  # none yet
    version("main")

    variant("parquet", default=False, description="Read rows from Parquet files")

    depends_on("c", type="build")
    depends_on("cxx", type="build")
    depends_on("cmake@3.25:", type="build")
    depends_on("ninja", type="build")
    depends_on("pkgconfig", type="build")
    depends_on("mpi")
    depends_on("py-torch@2.15: ~cuda")
    depends_on("hdf5@1.10: ~mpi")
    depends_on("boost@1.74: +program_options")
    depends_on("arrow@24: +parquet", when="+parquet")
    for library in ("fmt", "spdlog", "nlohmann-json", "pcre2", "utf8proc", "xxhash", "zlib-api", "zstd"):
        depends_on(library)

    generator("ninja")

    def cmake_args(self):
        torch = self.spec["py-torch"]
        python = torch["python"].package.platlib
        arguments = [
            self.define("PLUMB_LIBTORCH", join_path(torch.prefix, python, "torch")),
            self.define("PLUMB_BUILD_TESTS", False),
            self.define("PLUMB_BUILD_BENCHMARKS", False),
        ]
        if self.spec.satisfies("+parquet"):
            arguments.append(self.define("PLUMB_ARROW", self.spec["arrow"].prefix))
        return arguments
