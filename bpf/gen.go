package bpf

// The compiler is pinned in the file toolchain: the committed objects must come
// out byte for byte. The second object has another layout; it stands in for a
// later release in the tests of an upgrade.
//
//go:generate go run toolchain_check.go
//go:generate go tool bpf2go -cc clang-14 -strip llvm-strip-14 -target bpfel -tags !heddle_next -type addr -type column -type peer -type verdict -type reason -type service_flag -type cluster_flag -type conn_flag -type iface_flag -type pod_flag -type way -type fast_end -type fast_closing -type connect_in -type connect_out heddle src/heddle.c -- -O2 -g -Wall -Werror -mcpu=v3
//go:generate go tool bpf2go -cc clang-14 -strip llvm-strip-14 -target bpfel -tags heddle_next -output-stem heddlenext -type addr -type column -type peer -type verdict -type reason -type service_flag -type cluster_flag -type conn_flag -type iface_flag -type pod_flag -type way -type fast_end -type fast_closing -type connect_in -type connect_out heddle src/heddle.c -- -O2 -g -Wall -Werror -mcpu=v3 -DHD_LAYOUT_NEXT
//go:generate go tool bpf2go -cc clang-14 -strip llvm-strip-14 -target bpfel -no-global-types migrate src/migrate.c -- -O2 -g -Wall -Werror -mcpu=v3
//go:generate go tool bpf2go -cc clang-14 -strip llvm-strip-14 -target bpfel -output-dir bpftest -go-package bpftest next src/heddle.c -- -O2 -g -Wall -Werror -mcpu=v3 -DHD_LAYOUT_NEXT
