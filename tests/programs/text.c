// Numbers and texts made of the packet's bytes, and reads at addresses that may be wrong: the answers are left in a map.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 4096);
	__type(key, __u32);
	__type(value, long[2]);
} numbers SEC(".maps");

struct line {
	long len;
	char text[56];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 512);
	__type(key, __u32);
	__type(value, struct line);
} lines SEC(".maps");

static const char letters[16] = {' ', '-', '0', '1', '7', '8', '9', 'x', 'X', 'a', 'F', 'g', '\t', '0', '2', 0};
static const char word[] = "0-1";
static const char format[] = "%d|%5u|%-6x|%s|%llX|%c|%08lx|%pI4";
static const char short_format[] = "<%s>%%";
__u32 written = 0, made = 0;

static __always_inline void note(long first, long second)
{
	long pair[2] = {first, second};
	__u32 index = written++ & 4095;

	bpf_map_update_elem(&numbers, &index, pair, BPF_ANY);
}

static __always_inline void read_number(const char *text, __u32 len, __u64 flags)
{
	long value = 77;
	unsigned long natural = 77;
	long ret = bpf_strtol(text, len, flags, &value);

	note(ret, value);
	ret = bpf_strtoul(text, len, flags, &natural);
	note(ret, natural);
}

SEC("xdp")
int numbers_of_bytes(struct xdp_md *ctx)
{
	char text[24];

	for (int start = 0; start < 24; start += 3) {
		if (bpf_xdp_load_bytes(ctx, start, text, sizeof(text)))
			return XDP_DROP;
		__u8 choice = text[0];
		for (int i = 0; i < (int)sizeof(text); i++)
			text[i] = letters[text[i] & 15];
		if (choice & 64)
			for (int i = 1; i < (int)sizeof(text); i++)
				text[i] = '0' + (text[i] & 7);
		read_number(text, 1 + (choice & 15), 0);
		read_number(text, sizeof(text), 10);
		read_number(text, 20, 16);
		read_number(text, 5, choice & 63);
		note(bpf_strncmp(text, 1 + (choice & 3), word), 0);
		text[2] = word[2];
		text[0] = word[0];
		text[1] = word[1];
		text[3] = choice & 8 ? 0 : 1;
		note(bpf_strncmp(text, 3, word), bpf_strncmp(text, 4, word));
	}
	return XDP_PASS;
}

SEC("xdp")
int lines_of_bytes(struct xdp_md *ctx)
{
	struct line line = {};
	__u32 words[6], index = made++ & 255;
	__u64 args[8];

	if (bpf_xdp_load_bytes(ctx, 0, words, sizeof(words)))
		return XDP_DROP;
	args[0] = words[0];
	args[1] = words[1];
	args[2] = words[2] & 0xffff;
	args[3] = (__u64)(unsigned long)&word;
	args[4] = (__u64)words[3] << 32 | words[4];
	args[5] = 'A' + (words[5] & 15);
	args[6] = words[4];
	args[7] = (__u64)(unsigned long)&words[1];
	line.len = bpf_snprintf(line.text, 4 + (words[1] & 31), format, args, sizeof(args));
	bpf_map_update_elem(&lines, &index, &line, BPF_ANY);
	index += 256;
	line.len = bpf_snprintf(0, 0, short_format, &args[3], 8);
	line.len += bpf_trace_vprintk(format, sizeof(format), args, sizeof(args)) * 1000;
	line.len += bpf_trace_vprintk(format, sizeof(format), args, 7) * 100000;
	line.len += bpf_trace_vprintk(short_format, sizeof(short_format) - 1, args, 8) * 10000000;
	bpf_map_update_elem(&lines, &index, &line, BPF_ANY);
	return XDP_PASS;
}

SEC("xdp")
int probes(struct xdp_md *ctx)
{
	char into[16] = "0123456789abcde";
	long ret = 0;

	ret += bpf_probe_read_kernel(into, 8, format);
	ret = ret * 1000 + into[2];
	ret += bpf_probe_read_kernel(into, 8, (void *)8) * 3;
	ret = ret * 1000 + into[2] + into[9];
	ret += bpf_probe_read_kernel_str(into, 16, word) * 5;
	ret = ret * 100 + into[2] + into[3];
	ret += bpf_probe_read_kernel_str(into, 3, format) * 7;
	ret = ret * 100 + into[1] + into[2];
	ret += bpf_probe_read_kernel_str(into, 3, (void *)8) * 11;
	ret = ret * 100 + into[1] + into[5];
	ret += bpf_probe_read_kernel(into, 0, (void *)8) * 17;
	return ret + bpf_probe_read_kernel_str(into, 0, (void *)8) * 13;
}

char _license[] SEC("license") = "GPL";
