/* Entered in 64-bit mode by the Linux boot protocol on vCPU 0; other vCPUs come through `trampoline` by INIT/SIPI. */
    .code64
    .section .text.start, "ax"
    .globl _start
_start:
    lea stack0_end(%rip), %rsp
    call main
1:  hlt
    jmp 1b

/* Copied to 0x8000: real mode, then straight into 64-bit mode with the tables of vCPU 0. */
    .code16
    .globl trampoline, trampoline_end
trampoline:
    cli
    xor %ax, %ax
    mov %ax, %ds
    lgdtl 0x8000 + gdt_pointer - trampoline
    mov $0x20, %eax
    mov %eax, %cr4
    mov $0x9000, %eax
    mov %eax, %cr3
    mov $0xc0000080, %ecx
    mov $0x100, %eax
    xor %edx, %edx
    wrmsr
    mov $0x80000011, %eax
    mov %eax, %cr0
    ljmpl *(0x8000 + far_pointer - trampoline)
    .balign 8
gdt_pointer:
    .word 31
    .long 0x500
far_pointer:
    .long second
    .word 0x10
trampoline_end:

    .code64
second:
    mov $0x18, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    lea stack1_end(%rip), %rsp
    call second_main
1:  hlt
    jmp 1b

/* One handler for each of the vectors 0x40 … 0x4f: counts for its vCPU, and says so to the local APIC. */
    .globl handlers, spurious
    .macro handler vector
    .balign 64
    push %rax
    push %rcx
    mov $0xfee00020, %eax
    mov (%rax), %ecx
    shr $24, %ecx
    shl $6, %ecx
    lea interrupts + 4 * \vector(%rip), %rax
    incl (%rax, %rcx)
    mov $0xfee000b0, %eax
    movl $0, (%rax)
    pop %rcx
    pop %rax
    iretq
    .endm
    .balign 64
handlers:
    .set n, 0
    .rept 16
    handler n
    .set n, n + 1
    .endr
spurious:
    iretq

    .section .note.GNU-stack, "", @progbits
    .section .bss
    .balign 16
    .skip 4096
stack0_end:
    .skip 4096
stack1_end:
