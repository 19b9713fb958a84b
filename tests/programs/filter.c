// Socket filters: legacy packet loads from the packet, the network header and the link header, fields of the context.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define NETWORK (-0x100000)
#define LINK (-0x200000)

unsigned long long load_byte(void *skb, unsigned long long offset) asm("llvm.bpf.load.byte");
unsigned long long load_half(void *skb, unsigned long long offset) asm("llvm.bpf.load.half");
unsigned long long load_word(void *skb, unsigned long long offset) asm("llvm.bpf.load.word");

SEC("socket")
int filter(struct __sk_buff *skb)
{
	if (skb->protocol != __builtin_bswap16(0x0800))
		return 0;
	// The packet begins with the IPv4 header; ICMP and whatever comes from a low port is wanted.
	if (load_byte(skb, 9) == 1)
		return skb->len;
	int header = (load_byte(skb, 0) & 15) * 4;
	return load_half(skb, header) < 1024 ? -1 : 0;
}

SEC("socket")
int headers(struct __sk_buff *skb)
{
	unsigned int sum = load_half(skb, LINK + 12) << 16 | load_half(skb, NETWORK + 2);

	sum ^= load_word(skb, LINK) ^ load_byte(skb, NETWORK + 8) << 8;
	sum ^= skb->pkt_type << 4 ^ skb->vlan_present << 5 ^ skb->ifindex << 6 ^ skb->hash;
	skb->cb[1] = sum;
	return sum;
}

char _license[] SEC("license") = "GPL";
